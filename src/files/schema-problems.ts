/** What is wrong with a JSON file of somebody else's, as sentences: by zod, whose own words are for programmers. */

import type { z } from 'zod';
import { printable } from './printable.js';

const MOST_PROBLEMS = 5;
const LONGEST = 100;

/** "name is missing; video.fps is 500, but must be at most 240; and 3 more". Values that are wrong come before what is missing. */
export function problemsOf({ issues }: Pick<z.ZodError, 'issues'>, value: unknown): string {
  const all = issues.map((issue) => ({ missing: at(value, issue.path) === undefined, words: problemOf(issue, value) }));
  const words = [...all.filter(({ missing }) => !missing), ...all.filter(({ missing }) => missing)].map(
    (each) => each.words,
  );
  const more = words.length - MOST_PROBLEMS;
  return [...words.slice(0, MOST_PROBLEMS), ...(more > 0 ? [`and ${more} more`] : [])].join('; ');
}

function problemOf(issue: z.core.$ZodIssue, value: unknown): string {
  const place = placeOf(issue.path);
  const found = at(value, issue.path);
  if (issue.code === 'unrecognized_keys') return `${place === '' ? '' : `${place} has `}unknown ${namesOf(issue.keys)}`;
  if (found === undefined) return `${place || 'the content'} is missing`;
  return `${place || 'the content'} ${is(found)}${ruleOf(issue)}`;
}

/** What it should be. */
function ruleOf(issue: z.core.$ZodIssue): string {
  switch (issue.code) {
    case 'invalid_type':
      return `, but must be ${KINDS[issue.expected] ?? `of type ${issue.expected}`}`;
    case 'invalid_value':
      return `, but must be ${issue.values.map((each) => JSON.stringify(each)).join(' or ')}`;
    case 'too_big':
      return `, but must ${bound(issue.origin, 'at most', issue.maximum)}`;
    case 'too_small':
      return `, but must ${bound(issue.origin, 'at least', issue.minimum)}`;
    case 'invalid_format':
      return issue.format === 'datetime'
        ? ', but must be a date and time, such as 2026-01-31T12:00:00Z'
        : ', which is not valid';
    case 'custom':
      return `: ${cut(issue.message)}`;
    default:
      return ', which is not valid';
  }
}

const KINDS: Record<string, string> = {
  string: 'a text',
  number: 'a number',
  int: 'a whole number',
  boolean: 'true or false',
  array: 'a list',
  tuple: 'a list',
  object: 'an object',
  record: 'an object',
};

function bound(origin: string, word: string, limit: number | bigint): string {
  if (origin === 'string') return `have ${word} ${limit} characters`;
  if (origin === 'array' || origin === 'set') return `have ${word} ${limit} ${limit === 1 ? 'entry' : 'entries'}`;
  return `be ${word} ${limit}`;
}

function is(value: unknown): string {
  if (Array.isArray(value)) return `is a list of ${value.length}`;
  if (typeof value === 'object' && value !== null) return 'is an object';
  return `is ${cut(JSON.stringify(value))}`;
}

function namesOf(keys: readonly string[]): string {
  const shown = keys.slice(0, MOST_PROBLEMS).map((key) => cut(JSON.stringify(key)));
  return `${keys.length === 1 ? 'key' : 'keys'} ${shown.join(', ')}${keys.length > MOST_PROBLEMS ? ', …' : ''}`;
}

function placeOf(path: readonly PropertyKey[]): string {
  return path
    .map((key, i) => (typeof key === 'number' ? `[${key}]` : `${i > 0 ? '.' : ''}${cut(String(key))}`))
    .join('');
}

function at(value: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce<unknown>((inner, key) => {
    const own = typeof inner === 'object' && inner !== null && Object.hasOwn(inner, key);
    return own ? (inner as Record<PropertyKey, unknown>)[key] : undefined;
  }, value);
}

/** Keys and values of a stranger's file may be long, and forge lines. */
function cut(words: string): string {
  return printable(words.length > LONGEST ? `${words.slice(0, LONGEST)}…` : words);
}
