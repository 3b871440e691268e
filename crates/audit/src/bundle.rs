//! Entry bundles: records, each after its length as a big-endian 16-bit number (C2SP tlog-tiles, Log
//! entries). The body of a journal frame has the same form.

use bytes::{Buf, Bytes};

/// Bytes in front of each record.
pub(crate) const PREFIX: usize = 2;

/// Appends a record. The caller has checked its length.
pub(crate) fn push(bundle: &mut Vec<u8>, record: &[u8]) {
    let length = u16::try_from(record.len()).expect("records are checked when they are taken in");
    bundle.extend_from_slice(&length.to_be_bytes());
    bundle.extend_from_slice(record);
}

/// The records of a bundle, without copying; `None` at the end of a list for bytes that are no
/// complete record.
pub(crate) fn split(mut bundle: Bytes) -> impl Iterator<Item = Option<Bytes>> {
    let mut broken = false;
    std::iter::from_fn(move || {
        if broken || bundle.is_empty() {
            return None;
        }
        let length = bundle.try_get_u16().ok().map(usize::from);
        match length {
            Some(length) if length <= bundle.len() => Some(Some(bundle.split_to(length))),
            _ => {
                broken = true;
                Some(None)
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn records_come_back(records in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..20)) {
            let mut bundle = Vec::new();
            for record in &records {
                push(&mut bundle, record);
            }
            let back: Option<Vec<Bytes>> = split(bundle.into()).collect();
            prop_assert_eq!(back.unwrap(), records);
        }

        #[test]
        fn a_cut_bundle_is_noticed(cut in 1usize..12) {
            let mut bundle = Vec::new();
            push(&mut bundle, b"0123456789");
            bundle.truncate(bundle.len() - cut);
            let back: Vec<_> = split(bundle.into()).collect();
            prop_assert!(cut == 12 || back == vec![None]);
        }
    }

    #[test]
    fn lengths_are_big_endian() {
        let mut bundle = Vec::new();
        push(&mut bundle, &[7; 258]);
        assert_eq!(bundle[..3], [1, 2, 7]);
    }
}
