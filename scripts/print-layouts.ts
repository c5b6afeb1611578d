// Writes the table of src/import/layouts.ts into docs/models.md, between its marks:  npx tsx scripts/print-layouts.ts
import { readFileSync, writeFileSync } from 'node:fs';
import { layoutTables, TABLES_BEGIN, TABLES_END } from '../src/import/tables.js';

const path = new URL('../docs/models.md', import.meta.url);
const text = readFileSync(path, 'utf8');
const [from, to] = [text.indexOf(TABLES_BEGIN), text.indexOf(TABLES_END)];
if (from < 0 || to < from) throw new Error('docs/models.md has lost the marks of the table.');
writeFileSync(path, text.slice(0, from) + layoutTables() + text.slice(to + TABLES_END.length));
