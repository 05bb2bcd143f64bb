// Makes a key, a key set and many tokens for the benchmark: `node tokens.mjs FOLDER COUNT ALG`.
// Writes FOLDER/jwks.json and FOLDER/tokens.txt, a token a line.
import { createHash, generateKeyPairSync, sign } from "node:crypto";
import { writeFileSync } from "node:fs";

const [folder, count, alg] = [process.argv[2], Number(process.argv[3]), process.argv[4] ?? "ES256"];
const pair =
  alg === "RS256"
    ? generateKeyPairSync("rsa", { modulusLength: 2048 })
    : generateKeyPairSync("ec", { namedCurve: "P-256" });
const jwk = pair.publicKey.export({ format: "jwk" });
const kid = createHash("sha256").update(JSON.stringify(jwk)).digest("base64url").slice(0, 12);
writeFileSync(`${folder}/jwks.json`, JSON.stringify({ keys: [{ ...jwk, kid, alg, use: "sig" }] }));

const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
const now = Math.floor(Date.now() / 1000);
const tokens = [];
for (let n = 0; n < count; n += 1) {
  const claims = {
    iss: "https://id.example.com/", aud: "api", sub: `user-${n % 1000}`, sid: `session-${n}`, jti: `token-${n}`,
    azp: "web", scope: "read write", iat: now, exp: now + 7200,
  };
  const signed = `${part({ alg, typ: "at+jwt", kid })}.${part(claims)}`;
  const key = { key: pair.privateKey, dsaEncoding: "ieee-p1363" };
  tokens.push(`${signed}.${sign("sha256", Buffer.from(signed), key).toString("base64url")}`);
}
writeFileSync(`${folder}/tokens.txt`, `${tokens.join("\n")}\n`);
