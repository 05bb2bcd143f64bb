// What the provider is set up to do. Everything a test may want to vary about an access token is in the resource
// indicator (RFC 8707), so one mechanism serves logins, refreshes and client credentials alike:
//
//   https://api.test/rs256?ttl=5&aud=api&claims={"device_id":"d1"}
//
// The path names the algorithm of a JWT (rs256, ps256, es256, eddsa) or is `opaque`.

import { errors } from 'oidc-provider';
import { ALGORITHMS } from './keys.mjs';
import { CALLBACK, LOGGED_OUT } from './browser.mjs';

export const RESOURCE_SCOPES = 'read write admin';

/** The clients known to every provider; secrets are public on purpose. */
export const SECRETS = {
  'web-secret': 'web-secret-secret',
  machine: 'machine-secret',
  gateway: 'gateway-secret',
};

export function resourceIndicator(alg, { ttl, aud, claims } = {}) {
  const url = new URL(`https://api.test/${alg.toLowerCase()}`);
  if (ttl !== undefined) url.searchParams.set('ttl', ttl);
  if (aud !== undefined) url.searchParams.set('aud', aud);
  if (claims !== undefined && Object.keys(claims).length) url.searchParams.set('claims', JSON.stringify(claims));
  return url.href;
}

function readIndicator(indicator) {
  const url = new URL(indicator);
  const name = url.pathname.slice(1);
  const alg = ALGORITHMS.find((known) => known.toLowerCase() === name);
  if (url.host !== 'api.test' || !(alg || name === 'opaque')) throw new errors.InvalidTarget();
  return {
    alg,
    ttl: url.searchParams.has('ttl') ? Number(url.searchParams.get('ttl')) : undefined,
    audience: url.searchParams.get('aud') ?? 'api',
    claims: JSON.parse(url.searchParams.get('claims') ?? '{}'),
  };
}

export const subjectOf = (user) => `u-${user}`;
const usernameOf = (subject) => subject.replace(/^u-/, '');

function clients({ backchannelLogoutUri }) {
  const web = {
    grant_types: ['authorization_code', 'refresh_token'],
    redirect_uris: [CALLBACK],
    post_logout_redirect_uris: [LOGGED_OUT],
    // Required for the provider to put `sid` in tokens; without a real address it is never called in these tests.
    backchannel_logout_uri: backchannelLogoutUri ?? 'https://app.test/backchannel-logout',
    backchannel_logout_session_required: true,
  };
  const service = { redirect_uris: [], response_types: [] };
  return [
    { ...web, client_id: 'web', token_endpoint_auth_method: 'none' },
    { ...web, client_id: 'mobile', token_endpoint_auth_method: 'none' },
    { ...web, client_id: 'web-secret', client_secret: SECRETS['web-secret'] },
    { ...service, client_id: 'machine', client_secret: SECRETS.machine, grant_types: ['client_credentials'] },
    { ...service, client_id: 'gateway', client_secret: SECRETS.gateway, grant_types: [] },
  ];
}

/** A fresh grant for each authorization request: no consent page, and each login is a token family of its own. */
async function grantWithoutAsking(ctx) {
  const { client, session, provider, resourceServers, requestParamOIDCScopes } = ctx.oidc;
  if (!session.accountId) return undefined;
  const grant = new provider.Grant({ clientId: client.clientId, accountId: session.accountId });
  grant.addOIDCScope([...requestParamOIDCScopes].join(' '));
  for (const indicator of Object.keys(resourceServers)) grant.addResourceScope(indicator, RESOURCE_SCOPES);
  await grant.save();
  return grant;
}

function tokenClaims(_ctx, token) {
  const claims = token.resourceServer ? readIndicator(token.resourceServer.identifier()).claims : {};
  if (!token.accountId) return Object.keys(claims).length ? claims : undefined;
  const isJwt = token.resourceServer?.accessTokenFormat === 'jwt';
  return {
    preferred_username: usernameOf(token.accountId),
    ...(isJwt ? {} : { username: usernameOf(token.accountId) }), // RFC 7662's own name for it
    sid: token.sid,
    sso_session: token.sessionUid,
    ...claims,
  };
}

export function configuration({ jwks, adapter, options }) {
  return {
    jwks,
    adapter,
    clients: clients(options),
    cookies: { keys: ['only for tests'] },
    claims: { openid: ['sub'], profile: ['preferred_username'] },
    scopes: ['openid', 'offline_access', 'profile'],
    findAccount: (_ctx, sub) => ({
      accountId: sub,
      claims: () => ({ sub, preferred_username: usernameOf(sub) }),
    }),
    interactions: { url: (_ctx, interaction) => `/test/interaction/${interaction.uid}` },
    loadExistingGrant: grantWithoutAsking,
    extraTokenClaims: tokenClaims,
    issueRefreshToken: (_ctx, client) => client.grantTypeAllowed('refresh_token'),
    rotateRefreshToken: () => options.rotateRefreshTokens,
    expiresWithSession: () => options.expiresWithSession,
    pkce: { required: () => true },
    clockTolerance: 5,
    // Logout tokens go to loopback, which the provider's own guard against forged addresses would refuse.
    fetch: (url, init) => (url.startsWith('https://app.test/')
      ? Promise.reject(new Error('nobody listens there'))
      : fetch(url, { ...init, dispatcher: undefined })),
    ttl: {
      AccessToken: (_ctx, token) => token.resourceServer?.accessTokenTTL ?? options.accessTtl,
      ClientCredentials: (_ctx, token) => token.resourceServer?.accessTokenTTL ?? options.accessTtl,
      RefreshToken: options.refreshTtl,
      AuthorizationCode: 60,
      IdToken: options.accessTtl,
      Interaction: 60,
      Session: 24 * 3600,
      Grant: 24 * 3600,
    },
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      introspection: { enabled: true },
      revocation: { enabled: true },
      backchannelLogout: { enabled: true },
      rpInitiatedLogout: {
        enabled: true,
        logoutSource: (ctx, form) => { ctx.body = form; },
      },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => undefined,
        useGrantedResource: () => true,
        getResourceServerInfo: (_ctx, indicator) => {
          const { alg, ttl, audience } = readIndicator(indicator);
          return {
            scope: RESOURCE_SCOPES,
            audience,
            accessTokenTTL: ttl,
            accessTokenFormat: alg ? 'jwt' : 'opaque',
            jwt: alg ? { sign: { alg } } : undefined,
          };
        },
      },
    },
  };
}
