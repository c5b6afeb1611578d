import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { DomainError } from '../sessions/errors.js';
import type { Addon } from './addon.js';

const FILE = new URL('../../native/build/longlive.node', import.meta.url);

/** The native core; throws MODEL_UNAVAILABLE with the command that builds it. */
export function loadAddon(): Addon {
  const path = fileURLToPath(FILE);
  if (!existsSync(path)) {
    throw new DomainError('MODEL_UNAVAILABLE', `The native core is not built (${path}); run: npm run build:native`);
  }
  try {
    return createRequire(import.meta.url)(path) as Addon;
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    throw new DomainError(
      'MODEL_UNAVAILABLE',
      `The native core cannot be loaded (${message}); run: npm run build:native`,
      {
        cause: error,
      },
    );
  }
}
