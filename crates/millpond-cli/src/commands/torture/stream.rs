//! Which numbers of one stream have been seen.

/// The numbers of one incarnation of one source at one place.
#[derive(Default)]
pub struct Stream {
    /// One bit a number, from `first_word` on.
    seen: Vec<u64>,
    first_word: u64,
    distinct: u64,
}

impl Stream {
    /// False if it was seen before.
    pub fn see(&mut self, number: u64) -> bool {
        let (word, bit) = (number / 64, 1 << (number % 64));
        if self.seen.is_empty() {
            self.first_word = word;
        }
        if word < self.first_word {
            // What is delivered again may come after later ones.
            self.seen.splice(..0, (word..self.first_word).map(|_| 0));
            self.first_word = word;
        }
        let at = (word - self.first_word) as usize;
        if self.seen.len() <= at {
            self.seen.resize(at + 1, 0);
        }
        let new = self.seen[at] & bit == 0;
        self.seen[at] |= bit;
        self.distinct += u64::from(new);
        new
    }

    /// How many different ones.
    pub fn distinct(&self) -> u64 {
        self.distinct
    }

    /// All of them, rising.
    pub fn numbers(&self) -> impl Iterator<Item = u64> {
        let words = (self.first_word..).zip(&self.seen);
        words.flat_map(|(word, bits)| {
            (0..64).filter(move |bit| bits >> bit & 1 != 0).map(move |bit| word * 64 + bit)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_is_new_once_in_whatever_order_they_come() {
        let mut stream = Stream::default();
        let numbers = [1_000_000, 1_000_063, 1_000_064, 999_000, 1_000_500];
        for number in numbers {
            assert!(stream.see(number) && !stream.see(number), "{number}");
        }
        assert_eq!(stream.distinct(), numbers.len() as u64);
        assert_eq!(
            stream.numbers().collect::<Vec<_>>(),
            [999_000, 1_000_000, 1_000_063, 1_000_064, 1_000_500]
        );
        assert!(stream.seen.len() < 64, "only the span is kept");
    }
}
