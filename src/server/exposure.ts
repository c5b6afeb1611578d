import { isLoopback } from './addresses.js';
import { ConfigError, environmentName, type ServerConfig } from './config.js';

type Exposing = Pick<ServerConfig, 'host' | 'token' | 'open' | 'store' | 'redis' | 'signingKey' | 'role'>;

/** Refuses, with the ways out, to start what would give away what it has, or could not keep what it promises. */
export function checkExposure({ host, token, open, store, redis, signingKey, role }: Exposing): void {
  if (role !== 'all' && redis === undefined) {
    throw new ConfigError(
      `role (${environmentName('role')}): a server with the role ${role} needs others. Set redis (${environmentName('redis')}), through which they reach each other.`,
    );
  }
  if (!isLoopback(host.toLowerCase()) && token === undefined && !open) {
    throw new ConfigError(
      `host (${environmentName('host')}): ${host} can be reached from other machines, and without a token anyone may call it. ` +
        `Set a token (${environmentName('token')}), or --open (${environmentName('open')}=true) to serve everybody.`,
    );
  }
  const shared = redis !== undefined ? 'with Redis' : /^s3:/i.test(store) ? 'on S3' : undefined;
  if (shared !== undefined && signingKey === undefined) {
    throw new ConfigError(
      `signingKey (${environmentName('signingKey')}): ${shared} other processes must sign media URLs with the same key. ` +
        `Set one of at least 16 characters, or secrets (${environmentName('secrets')}), a directory that keeps one.`,
    );
  }
}
