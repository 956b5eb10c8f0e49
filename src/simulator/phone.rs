//! How Meta reads the `to` of a request, and which id the user then has. Pure.

/// The E.164 calling code that the digits begin with. Digits of an unassigned code count as three.
pub(super) fn calling_code(digits: &str) -> &str {
    let two = digits.get(..2).unwrap_or(digits);
    let length = match two.as_bytes() {
        [b'1' | b'7', ..] => 1,
        [b'2', b'0' | b'7']
        | [b'3', b'0'..=b'4' | b'6' | b'9']
        | [b'4', b'0' | b'1' | b'3'..=b'9']
        | [b'5', b'1'..=b'8']
        | [b'6', b'0'..=b'6']
        | [b'8', b'1' | b'2' | b'4' | b'6']
        | [b'9', b'0'..=b'5' | b'8'] => 2,
        _ => 3,
    };
    digits.get(..length).unwrap_or(digits)
}

/// Reads `to` as a phone number: `+`, `-`, `(`, `)` and spaces may stand between digits.
///
/// With a leading `+` the digits are taken as they are. Without it Meta puts the business number's own
/// country code in front, except that a whole international number works in practice: here that is any
/// number of eleven digits or more. `None` if it is not a phone number.
pub(super) fn read(to: &str, business_number: &str) -> Option<String> {
    let trimmed = to.trim();
    let (international, rest) = match trimmed.strip_prefix('+') {
        Some(rest) => (true, rest),
        None => (false, trimmed),
    };
    let mut digits = String::with_capacity(16);
    for character in rest.chars() {
        match character {
            '0'..='9' => digits.push(character),
            '-' | '(' | ')' | ' ' => {}
            _ => return None,
        }
    }
    if !international && digits.len() < 11 {
        digits.insert_str(0, calling_code(business_number));
    }
    (8..=15).contains(&digits.len()).then_some(digits)
}

/// The `wa_id` of a number. It differs where WhatsApp knows users by an older or newer spelling than the one
/// that was dialed: Brazilian mobiles outside the area codes 11 to 28 lose the ninth digit, Mexican and
/// Argentine ones gain the mobile prefix.
pub(super) fn wa_id(digits: &str) -> String {
    if let Some(national) = digits.strip_prefix("55")
        && national.len() == 11
        && let Some((area, subscriber)) = national.split_at_checked(2)
        && area > "28"
        && let Some(old) = subscriber.strip_prefix('9')
    {
        return format!("55{area}{old}");
    }
    if let Some(national) = digits.strip_prefix("52")
        && national.len() == 10
    {
        return format!("521{national}");
    }
    if let Some(national) = digits.strip_prefix("54")
        && national.len() == 10
    {
        return format!("549{national}");
    }
    digits.to_owned()
}

/// Whether this is a business-scoped user id or a parent one: `US.1`, `US.ENT.1`.
pub(super) fn is_user_id(text: &str) -> bool {
    let Some((country, rest)) = text.split_once('.') else { return false };
    let body = rest.strip_prefix("ENT.").unwrap_or(rest);
    country.len() == 2
        && country.bytes().all(|byte| byte.is_ascii_uppercase())
        && (1..=128).contains(&body.len())
        && body.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calling_codes() {
        for (digits, code) in [
            ("16505551234", "1"),
            ("79161234567", "7"),
            ("4915112345678", "49"),
            ("37255512345", "372"),
            ("919876543210", "91"),
            ("97455512345", "974"),
            ("2", "2"),
        ] {
            assert_eq!(calling_code(digits), code, "{digits}");
        }
    }

    #[test]
    fn numbers_as_meta_reads_them() {
        for (to, business, expected) in [
            ("+16505551234", "15550783881", Some("16505551234")),
            ("+1 (650) 555-1234", "15550783881", Some("16505551234")),
            ("16505551234", "15550783881", Some("16505551234")),
            ("6505551234", "15550783881", Some("16505551234")),
            ("9876543210", "919812345678", Some("919876543210")),
            ("+12345678", "15550783881", Some("12345678")),
            ("+1234567", "15550783881", None),
            ("+1650555123412345", "15550783881", None),
            ("+1650x551234", "15550783881", None),
            ("1650.555.1234", "15550783881", None),
            ("++16505551234", "15550783881", None),
            ("", "15550783881", None),
        ] {
            assert_eq!(read(to, business).as_deref(), expected, "{to} from {business}");
        }
    }

    #[test]
    fn wa_ids_that_differ_from_the_number() {
        for (digits, expected) in [
            ("5531987654321", "553187654321"),
            ("5511987654321", "5511987654321"),
            ("553187654321", "553187654321"),
            ("525512345678", "5215512345678"),
            ("5215512345678", "5215512345678"),
            ("541123456789", "5491123456789"),
            ("16505551234", "16505551234"),
        ] {
            assert_eq!(wa_id(digits), expected);
        }
    }

    #[test]
    fn user_ids() {
        for (text, expected) in [
            ("US.13491208655302741918", true),
            ("US.ENT.11815799212886844830", true),
            ("us.1", false),
            ("US.", false),
            ("USA.1", false),
            ("US.1-2", false),
            ("16505551234", false),
        ] {
            assert_eq!(is_user_id(text), expected, "{text}");
        }
    }
}
