// A real OpenID provider on loopback, with a back door for tests. Reads no file, keeps everything in memory, prints
// one JSON line when it is ready, and exits when its standard input closes, so a killed test leaves nothing behind.
//
//   node provider.mjs [--port 0] [--access-ttl 300] [--refresh-ttl 3600] [--rotate-refresh true]
//                     [--expires-with-session false] [--backchannel-logout-uri URL]
//
// Besides the standard endpoints (/.well-known/openid-configuration, /jwks, /token, /token/introspection,
// /token/revocation, /session/end) it answers, in JSON:
//
//   POST /test/login    {user, client_id?, alg?, ttl?, aud?, claims?, device_id?, scope?, resource?, browser?, via?}
//   POST /test/machine  {alg?, ttl?, aud?, claims?, scope?, resource?}       client credentials of `machine`
//   POST /test/refresh  {refresh_token, client_id?, via?}
//   POST /test/logout   {browser, client_id?}                                 with back-channel logout
//   POST /test/rotate   {alg?, drop_old?}                                     a new key signs from now on
//   POST /test/fail     {jwks|introspection|token|discovery: MODE}            MODE: true (500), a status, "hang",
//                                                                             "close", "garbage", {delay_ms}, false
//   GET|DELETE /test/record                                                   requests seen, by endpoint
//
// `via` is the base URL at which the client asks for its tokens when a gateway stands in between; the browser's part
// of a login always comes here directly, as the issuer's name says.

import { randomBytes } from 'node:crypto';
import { createServer } from 'node:http';
import { parseArgs } from 'node:util';

URL.parse ??= (text, base) => (URL.canParse(text, base) ? new URL(text, base) : null); // Node before 20.19
const { Provider } = await import('oidc-provider');
const { Browser, requestTokens } = await import('./browser.mjs');
const { configuration, resourceIndicator, subjectOf, RESOURCE_SCOPES, SECRETS } = await import('./configuration.mjs');
const { ALGORITHMS, KeyRing } = await import('./keys.mjs');
const { memoryStorage } = await import('./memory_adapter.mjs');

const { values: argv } = parseArgs({
  options: {
    port: { type: 'string', default: '0' },
    'access-ttl': { type: 'string', default: '300' },
    'refresh-ttl': { type: 'string', default: '3600' },
    'rotate-refresh': { type: 'string', default: 'true' },
    'expires-with-session': { type: 'string', default: 'false' },
    'backchannel-logout-uri': { type: 'string' },
  },
});
const options = {
  accessTtl: Number(argv['access-ttl']),
  refreshTtl: Number(argv['refresh-ttl']),
  rotateRefreshTokens: argv['rotate-refresh'] === 'true',
  expiresWithSession: argv['expires-with-session'] === 'true',
  backchannelLogoutUri: argv['backchannel-logout-uri'],
};

const ENDPOINTS = {
  '/jwks': 'jwks',
  '/token': 'token',
  '/token/introspection': 'introspection',
  '/token/revocation': 'revocation',
  '/.well-known/openid-configuration': 'discovery',
};

const keyRing = await KeyRing.create();
const adapter = memoryStorage();
const browsers = new Map();
const faults = new Map();
let record = emptyRecord();
let issuer;
let provider;
let handle;

function emptyRecord() {
  return Object.fromEntries(Object.values(ENDPOINTS).map((name) => [name, 0]));
}

/** Keys are fixed for a Provider's life; a new one over the same storage carries on where the old one was. */
function renewProvider() {
  provider = new Provider(issuer, configuration({ jwks: keyRing.jwks, adapter, options }));
  provider.on('server_error', (_ctx, error) => console.error('provider:', error));
  handle = provider.callback();
}

/** The part of a token that was really signed, or what introspection says of an opaque one; for the test's eyes only. */
function claimsOf(token) {
  const parts = token.split('.');
  return parts.length === 3 ? JSON.parse(Buffer.from(parts[1], 'base64url')) : undefined;
}

function requestedResource(body) {
  if ('resource' in body) return body.resource ?? undefined;
  if (body.alg === 'bare') return undefined; // opaque and without audience, as without any resource indicator
  const claims = { ...(body.device_id === undefined ? {} : { device_id: body.device_id }), ...body.claims };
  return resourceIndicator(body.alg ?? 'RS256', { ttl: body.ttl, aud: body.aud, claims });
}

async function login(body) {
  if (typeof body.user !== 'string') throw new Error('user is missing');
  const handleName = body.browser ?? randomBytes(9).toString('base64url');
  if (!browsers.has(handleName)) browsers.set(handleName, new Browser());
  const clientId = body.client_id ?? 'web';
  const tokens = await browsers.get(handleName).login({
    issuer,
    via: body.via,
    clientId,
    clientSecret: SECRETS[clientId],
    scope: body.scope ?? `openid profile ${RESOURCE_SCOPES}`,
    resource: requestedResource(body),
    user: body.user,
  });
  const { sid } = claimsOf(tokens.id_token ?? '') ?? {};
  return { ...tokens, ...described(tokens), sid, sub: subjectOf(body.user), username: body.user, client_id: clientId, browser: handleName };
}

function described(tokens) {
  const claims = claimsOf(tokens.access_token);
  return claims ? { claims, jti: claims.jti } : {};
}

const BACK_DOOR = {
  'POST /test/login': login,
  'POST /test/machine': async (body) => {
    const resource = requestedResource(body);
    const form = { grant_type: 'client_credentials', scope: body.scope ?? RESOURCE_SCOPES, ...(resource ? { resource } : {}) };
    const tokens = await requestTokens(issuer, { clientId: 'machine', clientSecret: SECRETS.machine }, form);
    return { ...tokens, ...described(tokens), sub: 'machine', client_id: 'machine' };
  },
  'POST /test/refresh': async (body) => {
    const clientId = body.client_id ?? 'web';
    const form = { grant_type: 'refresh_token', refresh_token: body.refresh_token };
    const tokens = await requestTokens(body.via ?? issuer, { clientId, clientSecret: SECRETS[clientId] }, form);
    return { ...tokens, ...described(tokens) };
  },
  'POST /test/logout': async (body) => {
    const browser = browsers.get(body.browser);
    if (!browser) throw new Error('no such browser');
    await browser.logout({ issuer, clientId: body.client_id ?? 'web' });
    browsers.delete(body.browser);
    return {};
  },
  'POST /test/rotate': async (body) => {
    const alg = body.alg ?? 'RS256';
    if (!ALGORITHMS.includes(alg)) throw new Error(`alg is none of ${ALGORITHMS}`);
    const kid = await keyRing.rotate(alg, body.drop_old === true);
    renewProvider();
    return { alg, kid, kids: keyRing.kids };
  },
  'POST /test/fail': (body) => {
    for (const [name, mode] of Object.entries(body)) faults.set(name, mode === true ? 500 : mode);
    return Object.fromEntries(faults);
  },
  'GET /test/record': () => record,
  'DELETE /test/record': () => {
    const seen = record;
    record = emptyRecord();
    return seen;
  },
};

async function readBody(request) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  return chunks.length ? JSON.parse(Buffer.concat(chunks)) : {};
}

async function answerBackDoor(action, request, response) {
  let status = 200;
  let answer;
  try {
    answer = await action(await readBody(request));
  } catch (error) {
    status = 400;
    answer = { error: error.message };
  }
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(answer));
}

/** The login page with nobody in front of it: whoever `login_hint` names has just typed the right password. */
async function finishInteraction(request, response) {
  const { params } = await provider.interactionDetails(request, response);
  const result = { login: { accountId: subjectOf(params.login_hint) } };
  await provider.interactionFinished(request, response, result, { mergeWithLastSubmission: false });
}

/** Does what `POST /test/fail` asked for; true when the request is not to be answered any more. */
async function misbehave(fault, response) {
  if (typeof fault === 'number') response.writeHead(fault).end();
  else if (fault === 'close') response.destroy();
  else if (fault === 'garbage') response.writeHead(200, { 'content-type': 'application/json' }).end('<html>');
  else if (fault?.delay_ms) {
    await new Promise((resolve) => { setTimeout(resolve, fault.delay_ms); });
    return false;
  } else return fault === 'hang';
  return true;
}

async function serve(request, response) {
  const { pathname } = new URL(request.url, issuer);
  const action = BACK_DOOR[`${request.method} ${pathname}`];
  if (action) return answerBackDoor(action, request, response);
  if (pathname.startsWith('/test/interaction/')) return finishInteraction(request, response);
  const endpoint = ENDPOINTS[pathname];
  if (endpoint) {
    record[endpoint] += 1;
    if (await misbehave(faults.get(endpoint), response)) return undefined;
  }
  return handle(request, response);
}

const server = createServer((request, response) => {
  serve(request, response).catch((error) => {
    console.error('idp:', error);
    if (!response.headersSent) response.writeHead(500).end();
  });
});

server.listen(Number(argv.port), '127.0.0.1', () => {
  const { port } = server.address();
  issuer = `http://127.0.0.1:${port}`;
  renewProvider();
  console.log(JSON.stringify({
    issuer,
    port,
    jwks_uri: `${issuer}/jwks`,
    token_endpoint: `${issuer}/token`,
    introspection_endpoint: `${issuer}/token/introspection`,
    revocation_endpoint: `${issuer}/token/revocation`,
    kids: keyRing.kids,
  }));
});

process.stdin.resume().on('close', () => process.exit(0)).on('end', () => process.exit(0)).on('error', () => process.exit(0));
const parent = process.ppid;
setInterval(() => process.ppid === parent || process.exit(0), 500).unref();
