//! Which programs may use what is stored. A store keeps its schema's version, and the oldest version whose programs may
//! still run against it, so that old and new ones run side by side during an upgrade as far as that is safe.

/// The schema this program writes.
pub(super) const SCHEMA: u32 = 1;
/// The oldest schema whose programs understand what this one writes.
pub(super) const OLDEST: u32 = 1;

/// Whether this program may run against a store that says so of itself; why not otherwise. A store without a schema is new.
pub(super) fn may_run(schema: Option<u32>, oldest: Option<u32>) -> Result<(), String> {
    let (schema, oldest) = (schema.unwrap_or(SCHEMA), oldest.unwrap_or(0));
    if oldest > SCHEMA {
        return Err(format!(
            "the store has schema {schema}, which programs older than schema {oldest} must not use; this one has \
             {SCHEMA}: upgrade it"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_store_is_used_as_far_as_it_allows() {
        assert_eq!(may_run(None, None), Ok(()));
        assert_eq!(may_run(Some(SCHEMA), Some(OLDEST)), Ok(()));
        assert_eq!(may_run(Some(SCHEMA + 1), Some(SCHEMA)), Ok(()));
        assert!(may_run(Some(SCHEMA + 2), Some(SCHEMA + 1)).unwrap_err().contains("upgrade"));
    }
}
