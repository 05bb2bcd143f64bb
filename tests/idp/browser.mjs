// A browser reduced to what a login needs: it keeps cookies, follows redirects and stops at the application.

import { createHash, randomBytes } from 'node:crypto';

/** Where the authorization code is delivered; nobody listens there, the browser stops in front of it. */
export const CALLBACK = 'https://app.test/callback';
/** Where the browser ends after a logout. */
export const LOGGED_OUT = 'https://app.test/logged-out';

export class Browser {
  #cookies = new Map(); // name -> { value, path }

  #cookieHeader(pathname) {
    const matching = [...this.#cookies].filter(([, { path }]) => pathname.startsWith(path));
    return matching.map(([name, { value }]) => `${name}=${value}`).join('; ');
  }

  #keepCookies(response) {
    for (const line of response.headers.getSetCookie()) {
      const [pair, ...attributes] = line.split(/;\s*/);
      const [name, value] = [pair.slice(0, pair.indexOf('=')), pair.slice(pair.indexOf('=') + 1)];
      const path = attributes.find((text) => /^path=/i.test(text))?.slice(5) ?? '/';
      const expires = attributes.find((text) => /^expires=/i.test(text))?.slice(8);
      if (!value || (expires && Date.parse(expires) <= Date.now())) this.#cookies.delete(name);
      else this.#cookies.set(name, { value, path });
    }
  }

  /** Follows redirects from `url` until a page (returned with its text) or `stop` (returned as a URL). */
  async visit(url, stop, init = {}) {
    let next = new URL(url);
    let request = init;
    for (let hop = 0; hop < 12; hop += 1) {
      const headers = { ...request.headers, cookie: this.#cookieHeader(next.pathname) };
      const response = await fetch(next, { ...request, headers, redirect: 'manual' });
      this.#keepCookies(response);
      const text = await response.text();
      const location = response.headers.get('location');
      if (!location) return { status: response.status, text };
      next = new URL(location, next);
      if (next.href.startsWith(stop)) return { url: next };
      request = {};
    }
    throw new Error('too many redirects');
  }

  /** Logs in by the authorization code flow with PKCE; resolves with the token endpoint's answer. */
  async login({ issuer, via, clientId, clientSecret, scope, resource, user, nonce, prompt }) {
    const verifier = randomBytes(32).toString('base64url');
    const state = randomBytes(12).toString('base64url');
    const query = new URLSearchParams({
      client_id: clientId,
      response_type: 'code',
      redirect_uri: CALLBACK,
      scope,
      state,
      login_hint: user,
      code_challenge: createHash('sha256').update(verifier).digest('base64url'),
      code_challenge_method: 'S256',
    });
    if (resource) query.set('resource', resource);
    if (nonce) query.set('nonce', nonce);
    if (prompt) query.set('prompt', prompt);
    const arrived = await this.visit(`${issuer}/auth?${query}`, CALLBACK);
    const answer = arrived.url?.searchParams;
    if (!answer?.get('code') || answer.get('state') !== state) {
      throw new Error(`no code: ${answer ? answer : `${arrived.status} ${arrived.text}`}`);
    }
    return requestTokens(via ?? issuer, { clientId, clientSecret }, {
      grant_type: 'authorization_code',
      code: answer.get('code'),
      redirect_uri: CALLBACK,
      code_verifier: verifier,
    });
  }

  /** Ends the login session by RP-initiated logout; back-channel logout follows from it. */
  async logout({ issuer, clientId }) {
    const query = new URLSearchParams({ client_id: clientId, post_logout_redirect_uri: LOGGED_OUT });
    const page = await this.visit(`${issuer}/session/end?${query}`, LOGGED_OUT);
    const xsrf = page.text?.match(/name="xsrf" value="([^"]+)"/)?.[1];
    if (!xsrf) throw new Error(`no logout form: ${page.status} ${page.text}`);
    const ended = await this.visit(`${issuer}/session/end/confirm`, LOGGED_OUT, {
      method: 'POST',
      headers: { 'content-type': 'application/x-www-form-urlencoded' },
      body: new URLSearchParams({ xsrf, logout: 'yes' }).toString(),
    });
    if (!ended.url) throw new Error(`logout failed: ${ended.status} ${ended.text}`);
  }
}

/** Posts to the token endpoint below `base` as the client; throws the error answer. */
export async function requestTokens(base, { clientId, clientSecret }, form) {
  const headers = { 'content-type': 'application/x-www-form-urlencoded' };
  const body = new URLSearchParams(form);
  if (clientSecret) headers.authorization = `Basic ${btoa(`${clientId}:${clientSecret}`)}`;
  else body.set('client_id', clientId);
  const response = await fetch(`${base}/token`, { method: 'POST', headers, body: body.toString() });
  const answer = await response.json();
  if (!response.ok) throw new Error(`token endpoint: ${response.status} ${JSON.stringify(answer)}`);
  return answer;
}
