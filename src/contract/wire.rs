//! Protobuf's wire format as a plain sequence of fields.

use bytes::Buf;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

/// The bytes are no protobuf message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

/// The value of one field.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum WireValue<'b> {
    Varint(u64),
    Double(f64),
    Bytes(&'b [u8]),
    /// A kind that our messages do not use.
    Other,
}

/// Reads the next field, its number and its value; `None` at the end.
pub(super) fn next_field<'b>(bytes: &mut &'b [u8]) -> Option<Result<(u32, WireValue<'b>), Malformed>> {
    bytes.has_remaining().then(|| read_field(bytes))
}

fn read_field<'b>(bytes: &mut &'b [u8]) -> Result<(u32, WireValue<'b>), Malformed> {
    let (number, wire_type) = decode_key(bytes).map_err(|_| Malformed)?;
    let value = match wire_type {
        WireType::Varint => WireValue::Varint(decode_varint(bytes).map_err(|_| Malformed)?),
        WireType::SixtyFourBit => WireValue::Double(bytes.try_get_f64_le().map_err(|_| Malformed)?),
        WireType::LengthDelimited => {
            let length = decode_varint(bytes).map_err(|_| Malformed)?;
            let length = usize::try_from(length).map_err(|_| Malformed)?;
            let (inner, rest) = bytes.split_at_checked(length).ok_or(Malformed)?;
            *bytes = rest;
            WireValue::Bytes(inner)
        }
        WireType::StartGroup | WireType::EndGroup | WireType::ThirtyTwoBit => {
            skip_field(wire_type, number, bytes, DecodeContext::default()).map_err(|_| Malformed)?;
            WireValue::Other
        }
    };
    Ok((number, value))
}
