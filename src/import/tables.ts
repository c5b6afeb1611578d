/** The table of layouts (layouts.ts) for people: docs/models.md shows it. */

import {
  ADAPTERS,
  BLOCK_SCALES,
  NETWORKS,
  OTHER_ADAPTERS,
  OTHER_FILES,
  OTHER_NETWORKS,
  PLAIN_FP8,
  QUANTIZED,
  UNKNOWN_BITS,
} from './layouts.js';

export const TABLES_BEGIN = '<!-- layouts: made by scripts/print-layouts.ts -->';
export const TABLES_END = '<!-- end of layouts -->';

const PLAIN_KIND = { title: PLAIN_FP8, example: 'a weight of type F8_E4M3', read: true };
const BLOCK_KIND = { title: BLOCK_SCALES, example: 'a weight_scale of more than one number a row', read: false };
const UNKNOWN_KIND = { title: UNKNOWN_BITS, example: 'a weight of type I8 beside ….scale', read: false };

const NETWORK_TITLES = { dit: 'video network', textEncoder: 'text encoder', vae: 'VAE', tinyVae: 'tiny decoder' };

/** In Markdown, from mark to mark. */
export function layoutTables(): string {
  return [
    TABLES_BEGIN,
    '',
    table(
      ['adapter', 'written by', 'names of its factors (the first of two)'],
      ADAPTERS.map(({ title, writers, a, alpha }) => [
        title,
        writers,
        `\`${a}\`${alpha === undefined ? '' : ` and \`${alpha}\``}`,
      ]),
    ),
    '',
    'Differences (`.diff`, `.diff_b`, `.diff_m`, `.w_norm`, `.b_norm`) are added as they are. Queries, keys and values in one matrix (`qkv`, `to_qkv`, `kv`, `to_kv`) are parted, in networks too. Refused by name, for they are more than two factors:',
    `${OTHER_ADAPTERS.map(({ title }) => title).join(', ')}; and adapters for ${OTHER_NETWORKS.map(({ title }) => title).join(', ')}.`,
    '',
    table(
      ['network', 'as named by', 'for example'],
      NETWORKS.map(({ network, title, example }) => [NETWORK_TITLES[network], title, `\`${example}\``]),
    ),
    '',
    table(
      ['quantized weights', 'for example', ''],
      [...QUANTIZED, PLAIN_KIND, BLOCK_KIND, UNKNOWN_KIND].map(({ title, example, read }) => [
        title,
        `\`${example}\``,
        read ? 'read with `--dequantize`' : 'refused',
      ]),
    ),
    '',
    table(
      ['files that are not read', 'what to do'],
      OTHER_FILES.map(({ title, advice }) => [title, advice]),
    ),
    '',
    TABLES_END,
  ].join('\n');
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`;
  return [line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n');
}
