/** Writes docs/settings.md from the code. Run after `npm run build:ts`. */
import { writeFile } from 'node:fs/promises';
import { settingsPage } from '../dist/server/settings-reference.js';

await writeFile(new URL('../docs/settings.md', import.meta.url), settingsPage());
