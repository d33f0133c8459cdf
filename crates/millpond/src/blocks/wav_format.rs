//! How the samples of WAV files are stored, and travel: each format as an item type that loses no bit.

use hound::{SampleFormat, WavSpec};
use millpond_shm::DType;

use crate::error::{Error, Result};

/// The sample formats that WAV files have here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StoredAs {
    I8,
    I16,
    I24,
    I32,
    F32,
}

impl StoredAs {
    const ALL: [(StoredAs, &str, u16); 5] = [
        (StoredAs::I8, "i8", 8),
        (StoredAs::I16, "i16", 16),
        (StoredAs::I24, "i24", 24),
        (StoredAs::I32, "i32", 32),
        (StoredAs::F32, "f32", 32),
    ];

    /// How the file with this header stores its samples.
    pub(super) fn of(spec: WavSpec) -> Result<Self> {
        let fits = |stored: &StoredAs, bits: u16| {
            bits == spec.bits_per_sample
                && (*stored == StoredAs::F32) == (spec.sample_format == SampleFormat::Float)
        };
        let found = Self::ALL.into_iter().find(|(stored, _, bits)| fits(stored, *bits));
        found.map(|(stored, _, _)| stored).ok_or_else(|| {
            let kind = if spec.sample_format == SampleFormat::Int { "integers" } else { "floats" };
            let found = format!("{kind} of {} bits", spec.bits_per_sample);
            Error::Refused(format!(
                "expected integers of 8, 16, 24 or 32 bits, or floats of 32, found {found}"
            ))
        })
    }

    /// The format that a stream's description names.
    pub(super) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(_, known, _)| *known == name).map(|(stored, _, _)| stored)
    }

    /// The format for samples that say no more than their item type.
    pub(super) fn for_dtype(dtype: DType) -> Self {
        match dtype {
            DType::I8 => StoredAs::I8,
            DType::I16 => StoredAs::I16,
            DType::I32 => StoredAs::I32,
            _ => StoredAs::F32,
        }
    }

    pub(super) fn name(self) -> &'static str {
        self.entry().1
    }

    /// Integers of up to 24 bits are exact as `f32` from -1 to 1; those of 32 bits are not.
    pub(super) fn dtype(self) -> DType {
        if self == StoredAs::I32 { DType::I32 } else { DType::F32 }
    }

    /// The integer that stands for 1.0; `None` for floats.
    pub(super) fn full_scale(self) -> Option<f64> {
        (self != StoredAs::F32).then(|| f64::from(1u32 << (self.entry().2 - 1)))
    }

    /// The header of a file that stores its samples so.
    pub(super) fn spec(self, channels: u16, sample_rate: u32) -> WavSpec {
        let sample_format = if self == StoredAs::F32 { SampleFormat::Float } else { SampleFormat::Int };
        WavSpec { channels, sample_rate, bits_per_sample: self.entry().2, sample_format }
    }

    fn entry(self) -> (StoredAs, &'static str, u16) {
        Self::ALL[self as usize]
    }
}

/// How samples stand in a file.
#[derive(Clone, Copy)]
pub(super) struct Encoding {
    pub(super) stored: StoredAs,
    /// Bytes of a sample. One of 24 bits may take four.
    pub(super) bytes: usize,
}

impl Encoding {
    /// Each sample takes as many bytes as its bits need.
    pub(super) fn packed(stored: StoredAs) -> Self {
        Self { stored, bytes: usize::from(stored.entry().2 / 8) }
    }

    /// What a header says.
    pub(super) fn of(spec: WavSpec, bytes: usize) -> Result<Self> {
        let packed = Self::packed(StoredAs::of(spec)?);
        if bytes != packed.bytes && (packed.stored, bytes) != (StoredAs::I24, 4) {
            let (expected, bits) = (packed.bytes, spec.bits_per_sample);
            return Err(Error::Refused(format!(
                "expected {expected} bytes for each sample of {bits} bits, found {bytes}"
            )));
        }
        Ok(Self { bytes, ..packed })
    }

    /// Replaces `samples` by those that the bytes stand for, from -1 to 1. As many as there are of both are taken.
    pub(super) fn decode(self, bytes: &[u8], samples: &mut [f32]) {
        // Up to 24 bits: the division by a power of two loses nothing.
        let scale = self.stored.full_scale().unwrap_or(1.0) as f32;
        fn each<const N: usize>(bytes: &[u8], samples: &mut [f32], decode: impl Fn([u8; N]) -> f32) {
            samples.iter_mut().zip(bytes.as_chunks().0).for_each(|(sample, bytes)| *sample = decode(*bytes));
        }
        match (self.stored, self.bytes) {
            // The only one without a sign: 128 is 0.
            (StoredAs::I8, _) => each(bytes, samples, |[byte]| (f32::from(byte) - 128.0) / scale),
            (StoredAs::I16, _) => each(bytes, samples, |b| f32::from(i16::from_le_bytes(b)) / scale),
            (StoredAs::I24, 3) => {
                each(bytes, samples, |[a, b, c]| (i32::from_le_bytes([0, a, b, c]) >> 8) as f32 / scale);
            }
            (StoredAs::I24, _) => {
                each(bytes, samples, |[a, b, c, _]| (i32::from_le_bytes([0, a, b, c]) >> 8) as f32 / scale);
            }
            (StoredAs::I32, _) => each(bytes, samples, |b| i32::from_le_bytes(b) as f32 / scale),
            (StoredAs::F32, _) => each(bytes, samples, f32::from_le_bytes),
        }
    }

    /// Replaces `bytes` by what stands for the samples: rounded, within range, NaN as 0. If they are floats, 1.0 is full scale.
    pub(super) fn encode(self, samples: &[f64], are_floats: bool, bytes: &mut Vec<u8>) {
        bytes.clear();
        let Some(full_scale) = self.stored.full_scale() else {
            bytes.extend(samples.iter().flat_map(|sample| (*sample as f32).to_le_bytes()));
            return;
        };
        let scale = if are_floats { full_scale } else { 1.0 };
        // In the one format without a sign, 128 stands for 0.
        let zero = if self.stored == StoredAs::I8 { 128 } else { 0 };
        for sample in samples {
            let integer = (scale * sample).round().clamp(-full_scale, full_scale - 1.0) as i32;
            // The lowest bytes; four for 24 bits are its sign, too.
            bytes.extend_from_slice(&(integer.wrapping_add(zero)).to_le_bytes()[..self.bytes]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_survive_their_names_and_headers() {
        for (stored, name, _) in StoredAs::ALL {
            assert_eq!(StoredAs::from_name(name), Some(stored));
            assert_eq!(stored.name(), name);
            assert_eq!(StoredAs::of(stored.spec(2, 48_000)).unwrap(), stored);
        }
        let odd =
            WavSpec { channels: 1, sample_rate: 8000, bits_per_sample: 12, sample_format: SampleFormat::Int };
        assert!(StoredAs::of(odd).unwrap_err().to_string().ends_with("found integers of 12 bits"));
    }

    #[test]
    fn decoding_undoes_encoding() {
        for (stored, ..) in StoredAs::ALL {
            for bytes in [Encoding::packed(stored).bytes, 4] {
                let Ok(encoding) = Encoding::of(stored.spec(1, 8000), bytes) else { continue };
                let samples = [0.0, 0.5, -1.0, -0.25, 1.0 - 1.0 / 128.0];
                let (mut encoded, mut decoded) = (Vec::new(), [9.0; 5]);
                encoding.encode(&samples, true, &mut encoded);
                assert_eq!(encoded.len(), samples.len() * bytes);
                encoding.decode(&encoded, &mut decoded);
                assert_eq!(decoded.map(f64::from), samples, "{stored:?}");
            }
        }
        let wide = Encoding::of(StoredAs::I16.spec(1, 8000), 4).err().expect("refused").to_string();
        assert_eq!(wide, "expected 2 bytes for each sample of 16 bits, found 4");
    }

    #[test]
    fn every_24_bit_integer_survives_f32() {
        let scale = StoredAs::I24.full_scale().unwrap();
        for value in (-(1 << 23)..1 << 23).step_by(97).chain([(1 << 23) - 1, 0, -1]) {
            let travelling = (f64::from(value) / scale) as f32;
            assert_eq!(f64::from(travelling) * scale, f64::from(value));
        }
    }
}
