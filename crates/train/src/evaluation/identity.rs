//! Hashes that say what was measured.

use fokker_tensor::{Bf16, Dtype, Tensor};
use sha2::{Digest, Sha256};

/// The SHA-256 of some bytes, as `sha256sum` prints it.
pub fn sha256(bytes: &[u8]) -> String {
    let mut hash = Sha256::new();
    hash.update(bytes);
    hex(hash)
}

pub(crate) fn hex(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Takes in a tensor's shape and numbers.
pub(crate) fn absorb(hash: &mut Sha256, x: &Tensor) {
    hash.update(format!("{:?} {:?}", x.dtype(), x.shape()));
    match x.dtype() {
        Dtype::F32 => x.as_slice::<f32>().chunks(4096).for_each(|part| {
            hash.update(part.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>());
        }),
        Dtype::Bf16 => x.as_slice::<Bf16>().chunks(4096).for_each(|part| {
            hash.update(part.iter().flat_map(|v| v.to_bits().to_le_bytes()).collect::<Vec<u8>>());
        }),
        Dtype::F64 => x.as_slice::<f64>().chunks(4096).for_each(|part| {
            hash.update(part.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>());
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_the_standard_and_tell_tensors_apart() {
        // FIPS 180-2, appendix B.1.
        assert_eq!(sha256(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        let of = |shape: &[usize], data: Vec<f32>| {
            let mut hash = Sha256::new();
            absorb(&mut hash, &Tensor::from_vec(shape, data));
            hex(hash)
        };
        assert_ne!(of(&[2], vec![1.0, 2.0]), of(&[1, 2], vec![1.0, 2.0]));
        assert_ne!(of(&[2], vec![1.0, 2.0]), of(&[2], vec![1.0, 2.5]));
    }
}
