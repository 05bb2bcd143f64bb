//! `[dialects.elasticsearch]`.

use super::mount;
use crate::admin::elasticsearch::Settings;
use crate::config::issuers::Issuers;
use crate::config::table::Table;

/// Reads the section.
pub(super) fn settle(table: &mut Table<'_>, issuers: &Issuers) -> Option<Settings> {
    Some(Settings { mount: mount(table, issuers)? })
}
