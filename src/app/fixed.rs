//! What a reload cannot change: addresses, the store and who we are in it.

use crate::config::Settings;
use crate::store;

/// Puts back what cannot be changed while running, and answers the names of what was.
pub(super) fn keep_fixed(settings: &mut Settings, current: &Settings) -> Vec<&'static str> {
    let mut restart = store_keys(&settings.store, &current.store);
    let mut keep = |key: &'static str, same: bool| {
        if !same {
            restart.push(key);
        }
    };
    keep("proxy.listen", settings.proxy.listen == current.proxy.listen);
    keep("admin.listen", settings.admin_listener.listen == current.admin_listener.listen);
    keep("store.max_staleness", settings.staleness.max == current.staleness.max);
    keep("store.snapshot", settings.snapshot == current.snapshot);
    keep("store.replica", settings.replica == current.replica);
    keep("sessions.queue", settings.sessions.queue == current.sessions.queue);
    settings.proxy.listen = current.proxy.listen;
    settings.admin_listener.listen = current.admin_listener.listen;
    settings.store = current.store.clone();
    settings.admin.store = current.admin.store.clone();
    settings.staleness.max = current.staleness.max;
    settings.snapshot.clone_from(&current.snapshot);
    settings.replica.clone_from(&current.replica);
    settings.sessions.queue = current.sessions.queue;
    restart
}

/// Which keys of `[store]` differ.
fn store_keys(new: &store::Settings, old: &store::Settings) -> Vec<&'static str> {
    let (server, before) = (&new.remote, &old.remote);
    let keys = [
        ("store.url", new.backend == old.backend),
        ("store.timeout", new.timeout == old.timeout),
        ("store.poll", server.poll == before.poll),
        ("store.connections", server.connections == before.connections),
        ("store.password_file", server.password == before.password),
        ("store.ca", server.ca == before.ca),
        ("store.client_cert", server.identity == before.identity),
        ("store.wait_replicas", server.wait_replicas == before.wait_replicas),
        ("store.wait_timeout", server.wait_timeout == before.wait_timeout),
    ];
    keys.into_iter().filter(|(_, same)| !same).map(|(key, _)| key).collect()
}
