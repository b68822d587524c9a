/// The order in which a propagation visits frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    /// From the last to the first.
    Backward,
    /// From the first to the last.
    Forward,
}

impl Direction {
    /// Computes a result for each of `count` frames from its number and the number and result of
    /// the frame visited before; results are in the order of the frames.
    pub fn run<T>(
        self,
        count: usize,
        mut step: impl FnMut(usize, Option<(usize, &T)>) -> T,
    ) -> Vec<T> {
        let at = |visit: usize| match self {
            Self::Backward => count - 1 - visit,
            Self::Forward => visit,
        };
        let mut results: Vec<T> = Vec::with_capacity(count);
        for visit in 0..count {
            let before = results.last().map(|result| (at(visit - 1), result));
            let result = step(at(visit), before);
            results.push(result);
        }
        if self == Self::Backward {
            results.reverse();
        }
        results
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_frame_follows_its_neighbour() {
        let visit = |at: usize, before: Option<(usize, &String)>| match before {
            None => format!("{at}"),
            Some((from, result)) => format!("{at}<{from}({result})"),
        };
        let forward = Direction::Forward.run(3, visit);
        assert_eq!(forward, ["0", "1<0(0)", "2<1(1<0(0))"]);
        let backward = Direction::Backward.run(3, visit);
        assert_eq!(backward, ["0<1(1<2(2))", "1<2(2)", "2"]);
    }
}
