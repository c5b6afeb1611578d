import { isLoopback } from './addresses.js';
import { ConfigError, environmentName, type ServerConfig } from './config.js';
import { issuerIn } from './credentials/issuer-settings.js';

type Asking = Pick<ServerConfig, 'host' | 'token' | 'open' | 'jwtIssuer' | 'jwtAudience' | 'jwtJwks'>;
type Exposing = Asking & Pick<ServerConfig, 'store' | 'redis' | 'signingKey' | 'role'>;

/** Whether others can reach it, and no setting says who may call. */
export function needsCredential({ host, token, open, ...settings }: Asking): boolean {
  return !isLoopback(host.toLowerCase()) && token === undefined && !open && !issuerIn(settings).complete;
}

/** `hasKeys`: whether API keys are in its store. Refuses, with the ways out, to start what would give away what it has, or could not keep what it promises. */
export function checkExposure(settings: Exposing, hasKeys = false): void {
  const { store, redis, signingKey, role } = settings;
  if (role !== 'all' && redis === undefined) {
    throw new ConfigError(
      `role (${environmentName('role')}): a server with the role ${role} needs others. Set redis (${environmentName('redis')}), through which they reach each other.`,
    );
  }
  const { missing } = issuerIn(settings);
  if (missing[0] !== undefined) {
    throw new ConfigError(
      `${missing[0]} (${environmentName(missing[0])}): is missing. To take JWTs, set jwtIssuer, jwtAudience and jwtJwks.`,
    );
  }
  if (needsCredential(settings) && !hasKeys) {
    throw new ConfigError(
      `host (${environmentName('host')}): ${settings.host} can be reached from other machines, and without a token anyone may call it. ` +
        `Set a token (${environmentName('token')}), create an API key in the store (longlive keys create), take JWTs (${environmentName('jwtIssuer')}), or use --open (${environmentName('open')}=true) to serve everybody.`,
    );
  }
  const shared = redis !== undefined ? 'with Redis' : /^s3:/i.test(store) ? 'on S3' : undefined;
  if (shared !== undefined && signingKey === undefined) {
    throw new ConfigError(
      `signingKey (${environmentName('signingKey')}): ${shared} other processes must sign media URLs with the same key. ` +
        `Set one of at least 16 characters, or secrets (${environmentName('secrets')}), a directory that keeps one; it is made where it is not there.`,
    );
  }
}
