import { randomBytes, randomUUID } from 'node:crypto';
import { link, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { makeDirectory } from '../files/make-directory.js';
import { ConfigError, environmentName, isSecret, type ServerConfig, TOKEN } from './config.js';

const FILES = { token: 'token', signingKey: 'signing-key' } as const;

type SecretName = keyof typeof FILES;

/** Where a secret is kept, and whether it was made just now. */
export interface KeptSecret {
  path: string;
  value: string;
  made: boolean;
}

/** Fills in what is not set from the directory of secrets, if there is one; what is not there either is made. */
export async function withSecrets(config: ServerConfig): Promise<{ config: ServerConfig; token?: KeptSecret }> {
  const { secrets: directory } = config;
  if (directory === undefined) return { config };
  const wanted = (Object.keys(FILES) as SecretName[]).filter((name) => config[name] === undefined);
  const needed = wanted.filter((name) => name !== 'token' || !config.open);
  const kept: Partial<Record<SecretName, KeptSecret>> = {};
  for (const name of needed) kept[name] = await keepSecret(directory, name);
  return {
    config: {
      ...config,
      token: config.token ?? kept.token?.value,
      signingKey: config.signingKey ?? kept.signingKey?.value,
    },
    token: kept.token,
  };
}

/** Both secrets in a directory, made where they are not there. `readable`: by every user who reaches the directory. */
export async function makeSecrets(directory: string, readable: boolean): Promise<Record<SecretName, KeptSecret>> {
  return {
    token: await keepSecret(directory, 'token', readable),
    signingKey: await keepSecret(directory, 'signingKey', readable),
  };
}

async function keepSecret(directory: string, name: SecretName, readable = false): Promise<KeptSecret> {
  const path = join(directory, FILES[name]);
  try {
    const known = await read(path);
    if (known !== undefined) return { path, value: known, made: false };
    await makeDirectory(directory, readable ? 0o755 : 0o700);
    const scratch = join(directory, `.${randomUUID()}`);
    await writeFile(scratch, `${randomBytes(32).toString('base64url')}\n`, {
      mode: readable ? 0o644 : 0o600,
      flush: true,
    });
    // Of several that start at once, one makes it and all read that one.
    const made = await link(scratch, path).then(
      () => true,
      (error: NodeJS.ErrnoException) => {
        if (error.code === 'EEXIST') return false;
        throw error;
      },
    );
    await rm(scratch, { force: true });
    return { path, value: (await read(path)) ?? '', made };
  } catch (error) {
    if (error instanceof ConfigError) throw error;
    throw new ConfigError(
      `secrets (${environmentName('secrets')}): ${path} can be neither read nor created (${String((error as NodeJS.ErrnoException).code)}). ` +
        `Set ${environmentName(name)}, or use a writable directory.`,
    );
  }
}

async function read(path: string): Promise<string | undefined> {
  let text: string;
  try {
    text = (await readFile(path, 'utf8')).trim();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
  if (isSecret(text) && TOKEN.test(text)) return text;
  throw new ConfigError(
    `${path}: a secret must have at least 16 characters, printable ASCII without blanks; remove the file to have one made.`,
  );
}
