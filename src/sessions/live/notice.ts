/** What a server says of itself to the others: whether it takes sessions, with which models, and how busy it is. */

import { z } from 'zod';
import type { EncoderName, ModelInfo } from '../ports.js';
import type { DeviceStatus, ServiceStatus } from '../sessions.js';
import { NONE_RUNNING, type Running } from './tenant-bounds.js';
import { TURNOVER } from './waiting-time.js';

/** Other releases may say more. */
const NOTICE = z.object({
  /** Whether it takes sessions at all, and now. */
  hosts: z.boolean(),
  accepting: z.boolean(),
  /** Tells servers of one store from those of another that use the same wire. */
  deployment: z.string(),
  /** Sessions that were refused there for want of room. */
  waiting: z.number().optional(),
  /** What frees places there; earlier releases do not say. */
  turnover: TURNOVER.optional(),
  /** Places that are left. */
  free: z.number(),
  models: z.custom<ModelInfo[]>(Array.isArray),
  encoders: z.custom<EncoderName[]>(Array.isArray),
  devices: z.custom<DeviceStatus[]>(Array.isArray),
  /** Of the REALTIME sessions that run, by id. */
  speeds: z.record(z.string(), z.number()),
  sessions: z.custom<ServiceStatus['sessions']>((value) => typeof value === 'object' && value !== null),
  /** What runs there, by tenant; earlier releases do not say. */
  tenants: z.record(z.string(), z.object({ sessions: z.number(), fastest: z.number() })).optional(),
});

export type Notice = z.output<typeof NOTICE>;

export function encodeNotice(notice: Notice): string {
  return JSON.stringify(notice);
}

export function decodeNotice(text: string): Notice | undefined {
  try {
    return NOTICE.parse(JSON.parse(text));
  } catch {
    return undefined;
  }
}

/** Whether one more session is likely to be admitted; the server itself decides. */
export function hasRoom({ accepting, free, devices }: Notice): boolean {
  const full = ({ capacity, realtimeSessions }: DeviceStatus) =>
    capacity !== undefined && realtimeSessions > 0 && realtimeSessions >= capacity;
  return accepting && free > 0 && !devices.every(full);
}

export function loadOf({ devices, free }: Notice): number {
  return devices.reduce((sum, { load }) => sum + load, 0) - free / 1_000;
}

export function runningThere({ tenants }: Notice, tenant: string): Running {
  return tenants && Object.hasOwn(tenants, tenant) ? (tenants[tenant] as Running) : NONE_RUNNING;
}

/** Several machines' devices of one kind as one. */
export function joinDevices(all: readonly DeviceStatus[]): DeviceStatus[] {
  const names = [...new Set(all.map(({ device }) => device))];
  return names.map((device) => {
    const alike = all.filter((other) => other.device === device);
    const known = alike.flatMap(({ capacity }) => capacity ?? []);
    const block = Math.max(...alike.map(({ blockMilliseconds }) => blockMilliseconds ?? 0));
    return {
      device,
      realtimeSessions: sum(alike.map(({ realtimeSessions }) => realtimeSessions)),
      fastestSessions: sum(alike.map(({ fastestSessions }) => fastestSessions)),
      load: Math.round((1_000 * sum(alike.map(({ load }) => load))) / alike.length) / 1_000,
      ...(known.length > 0 && { capacity: sum(known) }),
      ...(block > 0 && { blockMilliseconds: block }),
    };
  });
}

function sum(values: number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
