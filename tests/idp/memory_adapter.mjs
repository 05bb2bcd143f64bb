// The provider's storage, kept outside of it: a rotated key set means a new Provider, and sessions, grants and
// tokens must outlive it. Unlike the library's own memory adapter it forgets nothing before it expires.

const GRANTABLE = new Set(['AccessToken', 'AuthorizationCode', 'RefreshToken']);

/** Makes the adapter factory of one identity provider; all its models share one map. */
export function memoryStorage() {
  const records = new Map(); // "Model:id" -> { payload, expiresAt }
  const sessionsByUid = new Map();
  const keysByGrant = new Map();

  function live(key) {
    const record = records.get(key);
    if (record && record.expiresAt <= Date.now()) {
      records.delete(key);
      return undefined;
    }
    return record?.payload;
  }

  return (model) => ({
    async upsert(id, payload, expiresIn) {
      const key = `${model}:${id}`;
      const expiresAt = expiresIn ? Date.now() + expiresIn * 1000 : Infinity;
      records.set(key, { payload, expiresAt });
      if (model === 'Session') sessionsByUid.set(payload.uid, id);
      if (GRANTABLE.has(model) && payload.grantId) {
        if (!keysByGrant.has(payload.grantId)) keysByGrant.set(payload.grantId, new Set());
        keysByGrant.get(payload.grantId).add(key);
      }
    },
    async find(id) {
      return live(`${model}:${id}`);
    },
    async findByUid(uid) {
      return live(`${model}:${sessionsByUid.get(uid)}`);
    },
    async findByUserCode() {
      return undefined;
    },
    async consume(id) {
      const payload = live(`${model}:${id}`);
      if (payload) payload.consumed = Math.floor(Date.now() / 1000);
    },
    async destroy(id) {
      records.delete(`${model}:${id}`);
    },
    async revokeByGrantId(grantId) {
      for (const key of keysByGrant.get(grantId) ?? []) records.delete(key);
      keysByGrant.delete(grantId);
    },
  });
}
