//! What the samples of a video mean.

use serde::Deserialize;

/// What the samples of a video mean, in ffmpeg's words. `None` where the file does not say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Color {
    /// `tv` where black is 16 and white 235, `pc` where they are 0 and 255.
    #[serde(rename = "color_range")]
    pub range: Option<String>,
    /// How red, green and blue are mixed into brightness and colour, such as `bt709`.
    #[serde(rename = "color_space")]
    pub matrix: Option<String>,
    /// What red, green and blue are, such as `bt709`.
    #[serde(rename = "color_primaries")]
    pub primaries: Option<String>,
    /// How bright a value is, such as `bt709`.
    #[serde(rename = "color_transfer")]
    pub transfer: Option<String>,
}

/// Words for colours that `ffmpeg` reads as well as prints.
const WORDS: [&str; 29] = [
    "tv",
    "pc",
    "bt709",
    "fcc",
    "bt470m",
    "bt470bg",
    "smpte170m",
    "smpte240m",
    "ycgco",
    "bt2020nc",
    "bt2020c",
    "film",
    "bt2020",
    "smpte428",
    "smpte431",
    "smpte432",
    "gamma22",
    "gamma28",
    "linear",
    "log100",
    "log316",
    "iec61966-2-1",
    "iec61966-2-4",
    "bt1361e",
    "bt2020-10",
    "bt2020-12",
    "smpte2084",
    "arib-std-b67",
    "ebu3213",
];

impl Color {
    /// What players assume of high-definition video.
    pub fn bt709() -> Self {
        let bt709 = Some(String::from("bt709"));
        Self {
            range: None,
            matrix: bt709.clone(),
            primaries: bt709.clone(),
            transfer: bt709,
        }
    }

    /// Without words that mean nothing, such as `unknown`, or that `ffmpeg` does not read.
    pub(super) fn known(&self) -> Self {
        let known = |word: &Option<String>| {
            let word = word.as_deref();
            word.filter(|word| WORDS.contains(word)).map(String::from)
        };
        Self {
            range: known(&self.range),
            matrix: known(&self.matrix),
            primaries: known(&self.primaries),
            // The same curve has another name when it is read.
            transfer: match self.transfer.as_deref() {
                Some("bt470m") => Some("gamma22".into()),
                Some("bt470bg") => Some("gamma28".into()),
                _ => known(&self.transfer),
            },
        }
    }

    /// The matrix that `ffmpeg` takes when it turns frames of this video into RGB, in the words of
    /// its scaler: for every matrix that it does not know, that of BT.601.
    fn scaler_matrix(&self) -> &'static str {
        match self.matrix.as_deref() {
            Some("bt709") => "bt709",
            Some("fcc") => "fcc",
            Some("smpte240m") => "smpte240m",
            Some("bt2020nc" | "bt2020c") => "bt2020",
            _ => "bt601",
        }
    }

    /// A filter that turns RGB frames into frames of this meaning. Each colour sample is the mean of the
    /// pixels that `ffmpeg` gives its colour to when it reads the file.
    pub(super) fn filter_of_rgb(&self) -> String {
        let range = self.range.as_deref().unwrap_or("tv");
        let matrix = self.scaler_matrix();
        format!("scale=out_color_matrix={matrix}:out_range={range}:flags=area")
    }

    /// The options that write this into the file.
    pub(super) fn options(&self) -> impl Iterator<Item = [&str; 2]> {
        let options = [
            ("-color_range", &self.range),
            ("-colorspace", &self.matrix),
            ("-color_primaries", &self.primaries),
            ("-color_trc", &self.transfer),
        ];
        let given = options.into_iter();
        given.filter_map(|(option, word)| Some([option, word.as_deref()?]))
    }
}
