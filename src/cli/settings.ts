import type { Command } from 'commander';
import { Option } from 'commander';
import { configSchema } from '../server/config.js';

/** Every setting of the server as a flag: `maxSessions` is `--max-sessions`. Values are checked by the schema. */
export function addSettings(command: Command, names = Object.keys(configSchema.shape)): Command {
  for (const name of names) {
    const { description } = configSchema.shape[name as keyof typeof configSchema.shape];
    command.addOption(new Option(`--${kebab(name)} <value>`, description));
  }
  return command;
}

function kebab(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}
