// Checks that the test identity provider does what the tests rely on. Run: node tests/idp/check.mjs

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer, request as connect } from 'node:http';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { createRemoteJWKSet, decodeProtectedHeader, jwtVerify } from 'jose';

const logoutTokens = [];
const application = createServer(async (request, response) => {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  logoutTokens.push(new URLSearchParams(Buffer.concat(chunks).toString()).get('logout_token'));
  response.end();
});
application.listen(0, '127.0.0.1');
await once(application, 'listening');
const backchannel = `http://127.0.0.1:${application.address().port}/backchannel`;

const script = fileURLToPath(new URL('provider.mjs', import.meta.url));
async function start(...options) {
  const child = spawn(process.execPath, [script, ...options], { stdio: ['pipe', 'pipe', 'inherit'] });
  child.once('exit', (code) => process.exit(code || 1));
  const [line] = await once(createInterface({ input: child.stdout }), 'line');
  child.removeAllListeners('exit');
  return [child, JSON.parse(line)];
}
const [child, idp] = await start('--access-ttl', '120', '--backchannel-logout-uri', backchannel);

async function post(path, body, { issuer } = idp) {
  const response = await fetch(issuer + path, { method: 'POST', body: JSON.stringify(body) });
  const answer = await response.json();
  assert.equal(response.status, 200, `${path}: ${JSON.stringify(answer)}`);
  return answer;
}
const form = (path, fields, headers = {}) => fetch(idp.issuer + path, {
  method: 'POST',
  headers: { 'content-type': 'application/x-www-form-urlencoded', ...headers },
  body: new URLSearchParams(fields).toString(),
});
const refresh = (token) => form('/token', { grant_type: 'refresh_token', refresh_token: token, client_id: 'web' });
const gateway = { authorization: `Basic ${btoa('gateway:gateway-secret')}` };
const introspect = async (token) => (await form('/token/introspection', { token }, gateway)).json();
const record = async () => (await fetch(`${idp.issuer}/test/record`)).json();
const verify = (token) => jwtVerify(token, createRemoteJWKSet(new URL(idp.jwks_uri)), { issuer: idp.issuer, audience: 'api', typ: 'at+jwt' });

const checks = {
  async 'discovery names the endpoints'() {
    const document = await (await fetch(`${idp.issuer}/.well-known/openid-configuration`)).json();
    assert.equal(document.issuer, idp.issuer);
    assert.equal(document.jwks_uri, idp.jwks_uri);
    assert.equal(document.introspection_endpoint, idp.introspection_endpoint);
  },
  async 'each algorithm signs access tokens that carry the claims'() {
    for (const alg of ['RS256', 'PS256', 'ES256', 'EdDSA']) {
      const alice = await post('/test/login', { user: 'alice', alg, device_id: 'd1', claims: { groups: ['a', 'b'] } });
      const { payload, protectedHeader } = await verify(alice.access_token);
      assert.equal(protectedHeader.alg, alg);
      assert.equal(payload.sub, 'u-alice');
      assert.equal(payload.preferred_username, 'alice');
      assert.equal(payload.client_id, 'web');
      assert.equal(payload.device_id, 'd1');
      assert.deepEqual(payload.groups, ['a', 'b']);
      assert.equal(payload.exp - payload.iat, 120);
      assert.equal(payload.scope, 'read write admin');
      assert.ok(payload.jti && payload.sid && payload.sid === alice.sid);
      assert.ok(alice.refresh_token && alice.id_token);
    }
  },
  async 'two logins are two sessions, one browser is one'() {
    const first = await post('/test/login', { user: 'alice' });
    const second = await post('/test/login', { user: 'alice' });
    const third = await post('/test/login', { user: 'alice', client_id: 'mobile', browser: first.browser });
    assert.notEqual(first.sid, second.sid);
    assert.notEqual(first.claims.sso_session, second.claims.sso_session);
    assert.equal(first.claims.sso_session, third.claims.sso_session);
    assert.notEqual(first.sid, third.sid); // this provider counts sessions per client
  },
  async 'a refresh keeps session and algorithm, and is good once'() {
    const alice = await post('/test/login', { user: 'alice', alg: 'ES256', ttl: 7 });
    const answer = await (await refresh(alice.refresh_token)).json();
    const { payload, protectedHeader } = await verify(answer.access_token);
    assert.equal(protectedHeader.alg, 'ES256');
    assert.equal(payload.sid, alice.sid);
    assert.equal(payload.exp - payload.iat, 7);
    assert.notEqual(answer.refresh_token, alice.refresh_token);
    const replay = await refresh(alice.refresh_token);
    assert.equal(replay.status, 400);
    assert.equal((await replay.json()).error, 'invalid_grant');
  },
  async 'a replayed refresh token takes its whole grant along'() {
    const alice = await post('/test/login', { user: 'alice' });
    const elsewhere = await post('/test/login', { user: 'alice' });
    const successor = await (await refresh(alice.refresh_token)).json();
    assert.equal((await refresh(alice.refresh_token)).status, 400);
    assert.equal((await refresh(successor.refresh_token)).status, 400);
    assert.equal((await refresh(elsewhere.refresh_token)).status, 200);
  },
  async 'without rotation a refresh token stays what it is'() {
    const [lenient, other] = await start('--rotate-refresh', 'false', '--refresh-ttl', '60');
    for (const alg of ['ES256', 'opaque']) {
      const alice = await post('/test/login', { user: 'alice', alg, client_id: 'mobile' }, other);
      for (let n = 0; n < 2; n += 1) {
        const again = await post('/test/refresh', { refresh_token: alice.refresh_token, client_id: 'mobile' }, other);
        assert.equal(again.refresh_token, alice.refresh_token);
        assert.notEqual(again.access_token, alice.access_token);
      }
    }
    lenient.stdin.end();
  },
  async 'the token endpoint answers by any name a proxy gives it'() {
    const seen = [];
    const proxy = createServer((request, response) => {
      seen.push(request.url);
      const headers = { ...request.headers, host: 'gate.test', 'x-forwarded-proto': 'https', 'x-forwarded-host': 'gate.test', 'x-forwarded-for': '192.0.2.1', forwarded: 'for=192.0.2.1;proto=https;host=gate.test' };
      const onwards = connect(idp.issuer + request.url, { method: request.method, headers }, (answer) => {
        response.writeHead(answer.statusCode, answer.headers);
        answer.pipe(response);
      });
      request.pipe(onwards);
    }).listen(0, '127.0.0.1');
    await once(proxy, 'listening');
    const via = `http://127.0.0.1:${proxy.address().port}`;
    const alice = await post('/test/login', { user: 'alice', via });
    const renewed = await post('/test/refresh', { refresh_token: alice.refresh_token, via });
    await verify(renewed.access_token);
    assert.deepEqual(seen, ['/token', '/token']);
    proxy.close();
    proxy.closeAllConnections();
  },
  async 'a client with a secret logs in too'() {
    assert.ok((await post('/test/login', { user: 'bob', client_id: 'web-secret' })).refresh_token);
  },
  async 'a machine has a token of its own'() {
    const machine = await post('/test/machine', { alg: 'EdDSA', claims: { device_id: 'd9' } });
    const { payload } = await verify(machine.access_token);
    assert.equal(payload.sub, 'machine');
    assert.equal(payload.client_id, 'machine');
    assert.equal(payload.device_id, 'd9');
    assert.equal(payload.sid, undefined);
  },
  async 'opaque tokens are introspected, and inactive once revoked'() {
    for (const alg of ['opaque', 'bare']) {
      const carol = await post('/test/login', { user: 'carol', alg });
      assert.ok(!carol.access_token.includes('.'));
      const answer = await introspect(carol.access_token);
      assert.equal(answer.active, true);
      assert.equal(answer.sub, 'u-carol');
      assert.equal(answer.username, 'carol');
      assert.equal(answer.iss, idp.issuer);
      assert.equal(answer.sid, carol.sid);
      assert.equal(answer.aud, alg === 'opaque' ? 'api' : undefined);
      assert.equal((await form('/token/revocation', { token: carol.access_token, client_id: 'web' })).status, 200);
      assert.equal((await introspect(carol.access_token)).active, false);
    }
    assert.equal((await form('/token/introspection', { token: 'x' })).status, 400); // no credentials
  },
  async 'opaque machine tokens are introspected'() {
    const machine = await post('/test/machine', { alg: 'opaque' });
    assert.equal((await introspect(machine.access_token)).client_id, 'machine');
  },
  async 'a rotated key signs, the old one stays or goes'() {
    const before = await post('/test/login', { user: 'alice' });
    const kept = await post('/test/rotate', { alg: 'RS256' });
    const after = await post('/test/login', { user: 'alice' });
    assert.equal(decodeProtectedHeader(after.access_token).kid, kept.kid);
    assert.notEqual(decodeProtectedHeader(before.access_token).kid, kept.kid);
    await verify(before.access_token);
    await verify(after.access_token);
    await post('/test/rotate', { alg: 'RS256', drop_old: true });
    await assert.rejects(verify(after.access_token));
    const refreshed = await post('/test/refresh', { refresh_token: after.refresh_token });
    await verify(refreshed.access_token); // sessions and refresh tokens outlive the keys
  },
  async 'outages are made and seen'() {
    await fetch(`${idp.issuer}/test/record`, { method: 'DELETE' });
    await post('/test/fail', { jwks: true, introspection: 'close' });
    assert.equal((await fetch(idp.jwks_uri)).status, 500);
    await assert.rejects(introspect('x'));
    await post('/test/fail', { jwks: { delay_ms: 150 }, introspection: false });
    const started = Date.now();
    assert.equal((await fetch(idp.jwks_uri)).status, 200);
    assert.ok(Date.now() - started >= 145);
    await post('/test/fail', { jwks: 'garbage' });
    await assert.rejects((await fetch(idp.jwks_uri)).json());
    await post('/test/fail', { jwks: false });
    const { jwks, introspection } = await record();
    assert.deepEqual({ jwks, introspection }, { jwks: 3, introspection: 1 });
  },
  async 'many logins at once'() {
    const started = Date.now();
    const logins = await Promise.all(Array.from({ length: 100 }, (_, n) => post('/test/login', { user: `user${n}`, alg: 'ES256' })));
    assert.equal(new Set(logins.map(({ sid }) => sid)).size, 100);
    console.log(`     100 logins in ${Date.now() - started} ms`);
  },
  async 'ending a session sends a logout token'() {
    const dave = await post('/test/login', { user: 'dave' });
    await post('/test/logout', { browser: dave.browser });
    for (let wait = 0; wait < 50 && !logoutTokens.length; wait += 1) await new Promise((resolve) => { setTimeout(resolve, 20); });
    const { payload } = await jwtVerify(logoutTokens[0], createRemoteJWKSet(new URL(idp.jwks_uri)), { issuer: idp.issuer, audience: 'web' });
    assert.equal(payload.sid, dave.sid);
  },
  async 'it exits when its standard input closes'() {
    const exited = once(child, 'exit');
    child.stdin.end();
    assert.deepEqual(await exited, [0, null]);
  },
};

try {
  for (const [name, check] of Object.entries(checks)) {
    await check();
    console.log(`ok   ${name}`);
  }
} finally {
  child.kill();
  application.close();
}
