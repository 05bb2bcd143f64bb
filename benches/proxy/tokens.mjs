// Makes keys, a key set and many tokens for the benchmark: `node tokens.mjs FOLDER COUNT [ALG...]`.
// Writes FOLDER/jwks.json, and for each algorithm FOLDER/ALG.txt, a token a line, and FOLDER/ALG.pem, the public key;
// FOLDER/tokens.txt holds those of the first.
import { createHash, generateKeyPairSync, sign } from "node:crypto";
import { writeFileSync } from "node:fs";

const [folder, count, ...algs] = process.argv.slice(2);
const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
const now = Math.floor(Date.now() / 1000);
const keys = [];
for (const alg of algs.length ? algs : ["ES256"]) {
  const pair =
    alg === "RS256"
      ? generateKeyPairSync("rsa", { modulusLength: 2048 })
      : generateKeyPairSync("ec", { namedCurve: "P-256" });
  const jwk = pair.publicKey.export({ format: "jwk" });
  const kid = createHash("sha256").update(JSON.stringify(jwk)).digest("base64url").slice(0, 12);
  keys.push({ ...jwk, kid, alg, use: "sig" });
  writeFileSync(`${folder}/${alg}.pem`, pair.publicKey.export({ format: "pem", type: "spki" }));
  const tokens = [];
  for (let n = 0; n < Number(count); n += 1) {
    const claims = {
      iss: "https://id.example.com/", aud: "api", sub: `user-${n % 1000}`, sid: `session-${n}`, jti: `token-${n}`,
      azp: "web", scope: "read write", device_id: `device-${n}`, iat: now, exp: now + 14400,
    };
    const signed = `${part({ alg, typ: "at+jwt", kid })}.${part(claims)}`;
    const key = { key: pair.privateKey, dsaEncoding: "ieee-p1363" };
    tokens.push(`${signed}.${sign("sha256", Buffer.from(signed), key).toString("base64url")}`);
  }
  writeFileSync(`${folder}/${alg}.txt`, `${tokens.join("\n")}\n`);
  if (keys.length === 1) writeFileSync(`${folder}/tokens.txt`, `${tokens.join("\n")}\n`);
}
writeFileSync(`${folder}/jwks.json`, JSON.stringify({ keys }));
