//! What is read of bytes as a response is what a general reader of protobuf reads, or they are handed over.
#![no_main]

libfuzzer_sys::fuzz_target!(|message: &[u8]| {
    gate::laws::messages::is_usual(message, false);
});
