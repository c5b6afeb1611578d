import { expect, it } from 'vitest';
import { settingsOf } from './deployment.js';

it.each([
  ['zones', ''],
  ['zones', 'eu-central-1a'],
  ['zones', 'eu-central-1a,us-east-1a'],
  ['ami', 'latest'],
  ['workerImage', 'longlive-service:cuda'],
  ['apiImage', undefined],
])('%s has no default and must be exact: %j', (key, value) => {
  expect(() => settingsOf({ [key]: value })).toThrow(new RegExp(`^${key} must be`));
});

it('refuses impossible numbers', () => {
  expect(() => settingsOf({ minWorkers: '5', maxWorkers: '2' })).toThrow(/must not exceed/);
  expect(() => settingsOf({ maxWorkers: 'many' })).toThrow(/maxWorkers must be an integer/);
  expect(() => settingsOf({ minApis: '1' })).toThrow(/at least 2/);
});

it('keeps sessions for ever when retention is 0', () => {
  expect(settingsOf({ retentionDays: '0' }).retentionDays).toBe(0);
});
