//! Users on the command line: numbers, or names of this machine.

use std::str::FromStr;

use crate::users::uid_of;

/// A user that an option names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UserArg {
    pub(crate) uid: u32,
    /// The name, if it was given instead of the number.
    pub(crate) name: Option<String>,
}

impl FromStr for UserArg {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(uid) = text.parse() {
            return Ok(Self { uid, name: None });
        }
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err("a user id is a number from 0 to 4294967295");
        }
        let uid = uid_of(text).ok_or("there is no such user in /etc/passwd; give a number")?;
        Ok(Self { uid, name: Some(text.to_owned()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_a_number_or_a_name() {
        let number = UserArg { uid: 65534, name: None };
        let name = UserArg { uid: 0, name: Some("root".into()) };
        assert_eq!(["65534", "root"].map(str::parse), [Ok(number), Ok(name)]);
        assert!("4294967296".parse::<UserArg>().unwrap_err().contains("from 0 to"));
        assert!("-1".parse::<UserArg>().unwrap_err().contains("no such user"));
    }
}
