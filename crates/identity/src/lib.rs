//! Keys, tokens, proofs of possession and enrolment
