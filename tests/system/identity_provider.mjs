// An OpenID Connect provider for 74-identity-provider: node-oidc-provider, a certified one.
//
// identity_provider.mjs MODULES PORT KEYS: KEYS is a name. Two runs with the same name have the
// same keys, from KEYS.json beside the modules.

import fs from "node:fs";
import crypto from "node:crypto";
import path from "node:path";
import { pathToFileURL } from "node:url";

const [modules, port, file] = process.argv.slice(2);
const { Provider } = await import(pathToFileURL(path.join(modules, "oidc-provider/lib/index.js")));

const KINDS = {
  RS256: ["rsa", { modulusLength: 2048 }],
  PS256: ["rsa", { modulusLength: 2048 }],
  ES256: ["ec", { namedCurve: "P-256" }],
  EdDSA: ["ed25519", {}],
};

function key(alg) {
  const { privateKey } = crypto.generateKeyPairSync(...KINDS[alg]);
  return { ...privateKey.export({ format: "jwk" }), alg, use: "sig", kid: crypto.randomUUID() };
}

if (!fs.existsSync(file)) {
  fs.writeFileSync(file, JSON.stringify({ keys: Object.keys(KINDS).map(key) }));
}

const client = (id) => ({
  client_id: id,
  client_secret: "only-for-this-check",
  grant_types: ["client_credentials"],
  redirect_uris: [],
  response_types: [],
});

const provider = new Provider(`http://127.0.0.1:${port}`, {
  clients: [client("app"), client("operator")],
  jwks: JSON.parse(fs.readFileSync(file)),
  // The roles of a user come from the provider.
  extraTokenClaims: (_, token) => ({ groups: { roles: [token.clientId] } }),
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
    resourceIndicators: {
      enabled: true,
      // The resource names audience and algorithm: urn:<audience>:<algorithm>.
      getResourceServerInfo: (_, resource) => {
        const [, audience, alg] = resource.split(":");
        return {
          scope: "",
          audience,
          accessTokenTTL: 600,
          accessTokenFormat: alg ? "jwt" : "opaque",
          jwt: alg ? { sign: { alg } } : undefined,
        };
      },
    },
  },
});
provider.listen(Number(port), "127.0.0.1");
