use super::*;

fn row(seconds: f64, live: Option<Bytes>) -> MemorySample {
    MemorySample {
        seconds,
        live,
        ..MemorySample::default()
    }
}

fn pixels(png: &[u8]) -> image::RgbImage {
    image::load_from_memory(png).unwrap().into_rgb8()
}

/// Pixels of the colour of the line `name`.
fn num_pixels_of(name: &str, png: &[u8]) -> usize {
    let line = LINES.iter().find(|line| line.name == name).unwrap();
    let color = image::Rgb([line.color.0, line.color.1, line.color.2]);
    pixels(png)
        .pixels()
        .filter(|&&pixel| pixel == color)
        .count()
}

#[test]
fn known_amounts_are_drawn_in_their_colour_and_unknown_ones_are_not() {
    let rows: Vec<_> = (0..100)
        .map(|n| row(n as f64, Some(Bytes::mib(n % 7))))
        .collect();
    let png = draw(&rows, &[]).unwrap();
    assert!(num_pixels_of("live", &png) > 500);
    assert_eq!(num_pixels_of("process", &png), 0);
    assert_eq!(num_pixels_of("device in use", &png), 0);
}

#[test]
fn a_line_that_turns_back_sharply_stays_below_its_highest_amount() {
    // Fast and slow changes by different amounts, about two rows a pixel.
    let jagged = (0..2000u64).map(|n| {
        let seconds = (n + n * n * 7919 % 31 / 8) as f64;
        row(seconds, Some(Bytes::mib(10 + n * n * 37 % 11)))
    });
    let mut rows: Vec<_> = jagged.collect();
    rows.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
    let picture = pixels(&draw(&rows, &[]).unwrap());
    let orange = |y: u32| {
        (0..SIZE.0).any(|x| {
            let [red, _, blue] = picture.get_pixel(x, y).0;
            red > blue.saturating_add(8)
        })
    };
    // The header, whose legend has the colour too, ends above the chart.
    let chart_top = HEADER / OVERSAMPLING;
    let highest = (chart_top..SIZE.1).find(|&y| orange(y)).unwrap();
    // The highest amount lies one twentieth below the top of the chart.
    assert!(highest > chart_top + 15, "{highest}");
}

#[test]
fn extreme_histories_are_drawn() {
    let single = [row(0.0, Some(Bytes::ZERO))];
    let huge = [row(0.0, Some(Bytes::MAX)), row(1e9, Some(Bytes::new(1)))];
    for rows in [&single[..], &huge[..], &[]] {
        let picture = pixels(&draw(rows, &[]).unwrap());
        assert_eq!(picture.dimensions(), SIZE);
    }
}

#[test]
fn a_thousand_marks_with_any_name_are_drawn() {
    let rows = [
        row(0.0, Some(Bytes::mib(1))),
        row(10.0, Some(Bytes::mib(2))),
    ];
    let mark = |n: usize| PhaseMark {
        seconds: n as f64 / 100.0,
        phase: "époque 日本語 ".repeat(n % 9).into(),
    };
    let marks: Vec<_> = (0..1000).map(mark).collect();
    draw(&rows, &marks).unwrap();
}

#[test]
fn long_names_are_shortened_between_characters() {
    assert_eq!(shortened("training"), "training");
    assert_eq!(
        shortened(&"é".repeat(40)),
        format!("{}…", "é".repeat(MAX_LABEL_LEN))
    );
}

#[test]
fn axis_labels_can_be_told_apart() {
    assert_eq!(
        [0.05, 0.5, 5.0, 50.0, 5000.0].map(decimals),
        [3, 2, 1, 0, 0]
    );
}
