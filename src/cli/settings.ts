import type { Command } from 'commander';
import { Option } from 'commander';
import { describeSettings } from '../server/settings-reference.js';

/** Every setting of the server as a flag: `maxSessions` is `--max-sessions`. Values are checked by the schema. */
export function addSettings(command: Command, names?: readonly string[]): Command {
  for (const { name, flag, fallback, unit, description } of describeSettings()) {
    if (names && !names.includes(name)) continue;
    const facts = [fallback === undefined ? '' : `default: ${fallback}`, unit ?? ''].filter(Boolean).join(' ');
    const flags = flag.includes('<') ? flag : `${flag} [value]`;
    command.addOption(new Option(flags, facts === '' ? description : `${description} (${facts})`));
  }
  return command;
}
