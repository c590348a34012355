//! Series of runs, and what is said about them: median, 95th percentile, ratio, peak memory.

use serde_json::{Value, json};

use super::measure::Run;
use crate::Result;

/// All runs of one contestant.
#[derive(Debug)]
pub(super) struct Series {
    pub(super) name: String,
    pub(super) runs: Vec<Run>,
    /// What a `sync` of the filesystem took after each run, in seconds.
    pub(super) syncs: Vec<f64>,
}

impl Series {
    pub(super) fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            runs: Vec::new(),
            syncs: Vec::new(),
        }
    }

    pub(super) fn median(&self) -> f64 {
        quantile(self.seconds(), 0.5)
    }

    pub(super) fn p95(&self) -> f64 {
        quantile(self.seconds(), 0.95)
    }

    /// The most memory of any run, in MiB.
    pub(super) fn peak_mib(&self) -> f64 {
        self.runs.iter().map(|run| run.peak_kib).fold(0.0, f64::max) / 1024.0
    }

    fn median_of(&self, what: fn(&Run) -> f64) -> f64 {
        quantile(self.runs.iter().map(what).collect(), 0.5)
    }

    fn seconds(&self) -> Vec<f64> {
        self.runs.iter().map(|run| run.seconds).collect()
    }

    fn json(&self) -> Value {
        json!({
            "name": self.name,
            "median_s": self.median(),
            "p95_s": self.p95(),
            "user_median_s": self.median_of(|run| run.user),
            "system_median_s": self.median_of(|run| run.system),
            "peak_mib": self.peak_mib(),
            "sync_median_s": quantile(self.syncs.clone(), 0.5),
            "runs_s": self.seconds(),
        })
    }
}

/// The value below which `part` of all lie, by linear interpolation; 0 of none.
pub(super) fn quantile(mut values: Vec<f64>, part: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let Some(last) = values.len().checked_sub(1) else {
        return 0.0;
    };
    let place = part * last as f64;
    let (below, rest) = (place.floor() as usize, place.fract());
    let above = (below + 1).min(last);
    values[below] + rest * (values[above] - values[below])
}

/// A table with the ratio of each to the first.
pub(super) fn table(all: &[Series]) -> String {
    let first = all.first().map_or(0.0, Series::median);
    let mut text = format!(
        "{:<34} {:>9} {:>9} {:>7} {:>9} {:>9} {:>9} {:>9}\n",
        "", "median s", "p95 s", "ratio", "user s", "system s", "sync s", "peak MiB"
    );
    for series in all {
        text.push_str(&format!(
            "{:<34} {:>9.4} {:>9.4} {:>7.2} {:>9.3} {:>9.3} {:>9.2} {:>9.1}\n",
            series.name,
            series.median(),
            series.p95(),
            series.median() / first,
            series.median_of(|run| run.user),
            series.median_of(|run| run.system),
            quantile(series.syncs.clone(), 0.5),
            series.peak_mib()
        ));
    }
    text
}

/// The same for a program.
pub(super) fn document(all: &[Series]) -> Value {
    all.iter().map(Series::json).collect()
}

/// Writes a document.
pub(super) fn write(path: &std::path::Path, document: &Value) -> Result<()> {
    std::fs::write(path, format!("{document:#}\n"))
        .map_err(|error| format!("write {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_between_the_values() {
        assert_eq!(quantile(vec![3.0, 1.0, 2.0], 0.5), 2.0);
        assert_eq!(quantile(vec![1.0, 2.0], 0.5), 1.5);
        assert_eq!(quantile(vec![7.0], 0.95), 7.0);
        assert_eq!(quantile(Vec::new(), 0.5), 0.0);
        let twenty_one = (0..=20).map(f64::from).collect();
        assert_eq!(quantile(twenty_one, 0.95), 19.0);
    }

    #[test]
    fn a_table_compares_with_its_first_row() {
        let series = |name: &str, seconds: f64| Series {
            runs: vec![Run {
                seconds,
                user: 0.5,
                system: 0.25,
                peak_kib: 2048.0,
            }],
            ..Series::new(name)
        };
        let both = [series("ours", 2.0), series("theirs", 5.0)];
        let text = table(&both);
        assert!(text.contains("2.50"), "{text}");
        assert_eq!(document(&both)[1]["peak_mib"], 2.0);
        assert_eq!(document(&both)[1]["system_median_s"], 0.25);
    }
}
