import { Command } from 'commander';
import { makeSecrets } from '../server/secrets.js';
import { print } from './terminal.js';

/** `longlive secrets`: the token and the signing key of a deployment, made once in a directory that its parts share. */
export function secretsCommand(): Command {
  return new Command('secrets')
    .description('create a token and a signing key in a directory; existing ones are kept')
    .argument('<directory>', 'for serve --secrets; the token is in its file "token"')
    .option('--readable', 'make them readable by other users: for a volume that only this deployment mounts')
    .action(async (directory: string, { readable = false }: { readable?: boolean }) => {
      const { token, signingKey } = await makeSecrets(directory, readable);
      for (const { path, made } of [token, signingKey]) print(`${path}: ${made ? 'made' : 'kept'}\n`);
    });
}
