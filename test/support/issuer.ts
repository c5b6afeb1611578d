import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { exportJWK, generateKeyPair, type JWK, type JWTHeaderParameters, SignJWT } from 'jose';

export interface SigningKey {
  privateKey: CryptoKey;
  publicKey: CryptoKey;
  /** As the provider publishes it. */
  jwk: JWK;
}

export async function signingKey(kid: string, alg = 'ES256'): Promise<SigningKey> {
  const { privateKey, publicKey } = await generateKeyPair(alg, { extractable: true });
  return { privateKey, publicKey, jwk: { ...(await exportJWK(publicKey)), kid, alg, use: 'sig' } };
}

export function sign(
  { privateKey, jwk }: SigningKey,
  claims: object,
  header: Partial<JWTHeaderParameters> = {},
): Promise<string> {
  const { alg = '', kid = '' } = jwk;
  // What must be understood is for whoever reads it to refuse.
  const crit = Object.fromEntries((header.crit ?? []).map((name) => [name, true]));
  return new SignJWT({ ...claims }).setProtectedHeader({ alg, kid, ...header }).sign(privateKey, { crit });
}

/** What it gives is waited for by nobody. */
export type Listener = (request: IncomingMessage, response: ServerResponse) => unknown;

/** Something that answers on this machine. */
export async function answering(listener: Listener): Promise<{ url: string; server: Server; close(): void }> {
  const server = createServer((request, response) => void listener(request, response));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const close = () => {
    server.closeAllConnections();
    server.close();
  };
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/keys`, server, close };
}
