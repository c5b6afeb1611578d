import type { z } from 'zod';
import { environmentName, settingGroups, type SettingFacts } from './config.js';

/** A setting as people read of it. */
export interface SettingDescription {
  name: string;
  group: string;
  /** `LONGLIVE_…` */
  variable: string;
  /** `--kebab-case`, with ` <value>`, or nothing behind it for what is either on or off. */
  flag: string;
  /** As text; absent where there is none. */
  fallback?: string;
  unit?: string;
  description: string;
}

/** Every setting in the order of the reference. */
export function describeSettings(): SettingDescription[] {
  return Object.entries(settingGroups).flatMap(([group, settings]) =>
    Object.entries<z.ZodType>(settings).map(([name, schema]) => describe(group, name, schema)),
  );
}

function describe(group: string, name: string, schema: z.ZodType): SettingDescription {
  const { unit, shown } = (schema.meta() ?? {}) as SettingFacts;
  const value = schema.safeParse(undefined).data as string | number | boolean | string[] | undefined;
  const fallback = shown ?? (value === undefined || String(value) === '' ? undefined : String(value));
  return {
    ...{ name, group, variable: environmentName(name), description: schema.description ?? '' },
    flag: `--${kebab(name)}${typeof value === 'boolean' ? '' : ' <value>'}`,
    ...(fallback !== undefined && { fallback }),
    ...(unit !== undefined && { unit }),
  };
}

/** What `docs/settings.md` is. */
export function settingsPage(): string {
  const settings = describeSettings();
  const sections = Object.keys(settingGroups).map((group) => {
    const rows = settings.filter((setting) => setting.group === group).map(row);
    return `## ${group}\n\n| Flag | Variable | Default | Meaning |\n|---|---|---|---|\n${rows.join('\n')}\n`;
  });
  return `${HEAD}\n${sections.join('\n')}`;
}

const HEAD = `# Settings

Printed from \`src/server/config.ts\` by \`npm run settings\`; \`longlive serve --help\` says the same. A flag goes before its
variable, and that before the default; \`PORT\` and \`HOST\` are read without prefix too. Lists are comma-separated. What is on
or off takes \`--flag\`, \`--flag false\`, or \`true\` and \`false\` in the variable.
`;

function row({ flag, variable, fallback, unit, description }: SettingDescription): string {
  const value = fallback === undefined ? '' : `${fallback}${unit === undefined ? '' : ` ${unit}`}`;
  return `| \`${flag}\` | \`${variable}\` | ${value} | ${description.replaceAll('|', '\\|')} |`;
}

function kebab(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}
