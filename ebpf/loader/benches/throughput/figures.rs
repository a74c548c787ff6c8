//! Rounds, and how they are printed.

/// One way's figures, a round each.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures(Vec<f64>);

impl Figures {
    pub(crate) fn add(&mut self, figure: f64) {
        self.0.push(figure);
    }

    pub(crate) fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
    }

    pub(crate) fn least(&self) -> f64 {
        self.0.iter().copied().fold(f64::INFINITY, f64::min)
    }

    pub(crate) fn most(&self) -> f64 {
        self.0.iter().copied().fold(f64::NEG_INFINITY, f64::max)
    }

    /// By how many times more than others in the same rounds, in the middle.
    pub(crate) fn of(&self, others: &Self) -> f64 {
        let pairs = self.0.iter().zip(&others.0);
        Self(pairs.map(|(one, other)| one / other).collect()).median()
    }
}
