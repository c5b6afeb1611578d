import { AtCapacityError, ConnectionError, type State } from '@longlive/client';
import { describe, expect, test } from 'vitest';
import { rest } from '../src/lib/history';
import { secondsOf } from '../src/lib/moment';
import { fileName } from '../src/lib/names';
import { faultOf, NO_SETUP, promptFault } from '../src/lib/setup';
import { headline, problemOf } from '../src/lib/words';

const say = (state: State, speed = 1, player: Parameters<typeof headline>[1] = { status: 'playing' }) =>
  headline(state, player, { speed });

describe('what the page says', () => {
  test('names speed and wait when pictures come too slowly', () => {
    expect(say({ status: 'live' }, 0.5, { status: 'buffering', seconds: 4 }).text).toBe('0.5×, buffering 4 s');
    expect(say({ status: 'live' }, 1.2, { status: 'buffering', seconds: 1 }).text).toBe('buffering 1 s');
    expect(say({ status: 'live' }).text).toBe('Live');
  });

  test('says the place in the line, and about how long it takes', () => {
    const queued = (place: number | null, waitSeconds: number | null) => say({ status: 'queued', place, waitSeconds });
    expect(queued(2, 200)).toMatchObject({ text: 'Waiting in line, place 2' });
    expect(queued(2, 200).detail).toContain('about 3 minutes');
    expect(queued(null, null)).toMatchObject({ text: 'Waiting in line' });
    expect(queued(1, null).detail).not.toContain('about');
  });

  test('gives the reason of a pause and of an end', () => {
    const paused = (reason: never) =>
      say({ status: 'paused', reason, failure: { code: 'STORAGE', message: 'Disk full.' } });
    expect(paused('IDLE' as never).detail).toContain('nobody watched');
    expect(paused('STORAGE' as never).detail).toContain('Disk full.');
    expect(say({ status: 'ended', as: 'FAILED', reason: null, failure: null })).toMatchObject({
      text: 'Failed',
      tone: 'bad',
    });
    expect(say({ status: 'reconnecting' }).detail).toContain('tries again by itself');
  });

  test('has words of its own for errors that people cannot act upon as they are', () => {
    expect(problemOf(new ConnectionError('Failed to fetch'))).toMatchObject({ passing: true });
    expect(problemOf(new ConnectionError('Failed to fetch')).text).not.toContain('fetch');
    const full = new AtCapacityError({ message: 'No room.', code: 'AT_CAPACITY', retryAfterSeconds: 2.2 } as never);
    expect(problemOf(full).text).toBe('No room. Your text is kept: try again in 3 s.');
    expect(problemOf(full).full).toBe(true);
    expect(problemOf(Object.assign(new Error('no'), { field: 'seed' }))).toEqual({ text: 'no', field: 'seed' });
  });
});

describe('what is typed', () => {
  test.each([
    ['12', '', undefined],
    ['', '2.5', undefined],
    ['18446744073709551615', '3600', undefined],
    ['18446744073709551616', '', 'seed'],
    ['-1', '', 'seed'],
    ['1e3', '', 'seed'],
    ['', 'ten', 'length'],
    ['', '0', 'length'],
    ['', '3601', 'length'],
    ['', '1,5', 'length'],
  ])('seed %j, length %j: %j is refused', (seed, length, field) => {
    expect(faultOf({ ...NO_SETUP, seed, length })?.field).toBe(field);
  });

  test('a prompt counts in characters, as the service does', () => {
    expect(promptFault('😀'.repeat(2000))).toBeUndefined();
    expect(promptFault('x'.repeat(2001))?.text).toContain('2,001 characters');
  });

  test('only what was sent leaves the box', () => {
    expect(rest('a fox', 'a fox')).toBe('');
    expect(rest('a fox and more', 'a fox')).toBe('and more');
    expect(rest('another', 'a fox')).toBe('another');
  });

  test.each([
    ['90', 90],
    ['90.5s', 90.5],
    ['1m30s', 90],
    ['1h', 3600],
    ['', undefined],
    ['x', undefined],
    ['-3', undefined],
  ])('a moment of an address: %j is %j', (text, seconds) => expect(secondsOf(text)).toBe(seconds));

  test('files are called after the first prompt', () => {
    expect(fileName('A red fox, running: Ümläut!', 'Session:ab-cdef12')).toBe('a-red-fox-running-umlaut-cdef12');
    expect(fileName('???', 'x')).toBe('longlive-x');
    expect(fileName('w'.repeat(500), 'x').length).toBeLessThan(80);
  });
});
