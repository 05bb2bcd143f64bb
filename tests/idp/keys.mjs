// Signing keys, made anew at every start: nothing secret is ever committed.

import { randomBytes } from 'node:crypto';
import { exportJWK, generateKeyPair } from 'jose';

export const ALGORITHMS = ['RS256', 'PS256', 'ES256', 'EdDSA'];

async function generate(alg) {
  const { privateKey } = await generateKeyPair(alg, { extractable: true, modulusLength: 2048 });
  const kid = `${alg.toLowerCase()}-${randomBytes(6).toString('hex')}`;
  return { ...(await exportJWK(privateKey)), kid, alg, use: 'sig' };
}

/** The provider's private keys, newest first: the first of an algorithm signs, all are published. */
export class KeyRing {
  #keys = [];

  static async create(algorithms = ALGORITHMS) {
    const ring = new KeyRing();
    ring.#keys = await Promise.all(algorithms.map(generate));
    return ring;
  }

  async rotate(alg, dropOld) {
    const kept = dropOld ? this.#keys.filter((key) => key.alg !== alg) : this.#keys;
    const key = await generate(alg);
    this.#keys = [key, ...kept];
    return key.kid;
  }

  get jwks() {
    return { keys: structuredClone(this.#keys) };
  }

  get kids() {
    return this.#keys.map(({ kid }) => kid);
  }
}
