//! All that is wrong, rather than the first of it.

/// So many are kept; of what comes behind only the number.
const KEPT_MAX: usize = 100;

/// Mistakes in the order in which they were found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistakes<E> {
    kept: Vec<E>,
    more: u64,
}

impl<E> Default for Mistakes<E> {
    fn default() -> Self {
        Self {
            kept: Vec::new(),
            more: 0,
        }
    }
}

impl<E> From<E> for Mistakes<E> {
    fn from(mistake: E) -> Self {
        Self {
            kept: vec![mistake],
            more: 0,
        }
    }
}

impl<E> Mistakes<E> {
    /// Adds one.
    pub fn note(&mut self, mistake: E) {
        self.note_with(|| mistake);
    }

    /// Adds one that is put into words only if it is kept.
    pub fn note_with(&mut self, mistake: impl FnOnce() -> E) {
        if self.kept.len() < KEPT_MAX {
            self.kept.push(mistake());
        } else {
            self.more = self.more.saturating_add(1);
        }
    }

    /// The value, or `None` if it is a mistake, which is added.
    pub fn take<T>(&mut self, result: Result<T, impl Into<E>>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(mistake) => {
                self.note(mistake.into());
                None
            }
        }
    }

    /// Adds all of another list behind these, in other words.
    pub fn extend<F>(&mut self, others: Mistakes<F>, mut map: impl FnMut(F) -> E) {
        for mistake in others.kept {
            self.note_with(|| map(mistake));
        }
        self.more = self.more.saturating_add(others.more);
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// Those that are kept: all, or the first hundred.
    #[must_use]
    pub fn kept(&self) -> &[E] {
        &self.kept
    }

    /// The first one.
    #[must_use]
    pub fn into_first(self) -> Option<E> {
        self.kept.into_iter().next()
    }

    /// How many there are besides.
    #[must_use]
    pub const fn more(&self) -> u64 {
        self.more
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hundred_are_kept_and_the_others_counted() {
        let mut mistakes = Mistakes::default();
        assert!(mistakes.is_empty());
        assert_eq!(mistakes.take(Ok::<_, u32>("value")), Some("value"));
        assert_eq!(mistakes.take(Err::<&str, u32>(0)), None);
        for number in 1..103 {
            mistakes.note(number);
        }
        let expected: Vec<u32> = (0..100).collect();
        assert_eq!((mistakes.kept(), mistakes.more()), (&expected[..], 3));
        let mut all = Mistakes::from(7_u64);
        all.extend(mistakes, u64::from);
        assert_eq!((all.kept().len(), all.more()), (100, 4));
        assert_eq!((all.kept()[0], all.kept()[99]), (7, 98));
        assert_eq!(all.into_first(), Some(7));
    }
}
