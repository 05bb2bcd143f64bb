//! `[dialects.privx]`.

use super::mount;
use crate::admin::privx::Settings;
use crate::config::issuers::Issuers;
use crate::config::range::{DAY, MINUTE};
use crate::config::table::Table;
use crate::sessions::PasswordSettings;

/// Reads the section.
pub(super) fn settle(table: &mut Table<'_>, issuers: &Issuers) -> Option<Settings> {
    let usual = PasswordSettings::default().ttl;
    let session_password_ttl = table.within("session_password_ttl", usual, MINUTE..=30 * DAY);
    Some(Settings { mount: mount(table, issuers)?, session_password_ttl })
}
