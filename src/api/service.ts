import type { DeviceStatus, ServiceStatus } from '../sessions/index.js';
import { builder } from './builder.js';
import { weigh } from './paging.js';
import { withoutPaths } from './redact.js';
import { Model } from './model.js';
import { SessionState } from './session.js';

/** Of one machine, and of a session. */
const DEVICES = 8;
const STATES = 7;

const Device = builder.objectRef<DeviceStatus>('Device').implement({
  description: 'A GPU or CPU that generates.',
  fields: (t) => ({
    name: t.exposeString('device', { description: '`cpu` or `cuda`.' }),
    capacity: t.exposeInt('capacity', {
      nullable: true,
      description:
        'Number of REALTIME sessions it can run, from the measured block time; null until something has run.',
    }),
    realtimeSessions: t.exposeInt('realtimeSessions', {
      description: 'How many sessions generate on it at pace REALTIME.',
    }),
    fastestSessions: t.exposeInt('fastestSessions', {
      description: 'How many sessions generate on it at pace FASTEST.',
    }),
    load: t.exposeFloat('load', {
      description: 'Share of the device that REALTIME sessions need; above 1 it cannot keep up.',
    }),
    blockMilliseconds: t.exposeFloat('blockMilliseconds', {
      nullable: true,
      description: 'Device time per block, smoothed.',
    }),
  }),
});

const SessionCount = builder
  .objectRef<{ state: keyof ServiceStatus['sessions']; count: number }>('SessionCount')
  .implement({
    description: 'How many sessions are in a state.',
    fields: (t) => ({
      state: t.expose('state', { type: SessionState, description: 'The state.' }),
      count: t.exposeInt('count', { description: 'How many sessions are in it.' }),
    }),
  });

const Service = builder.objectRef<ServiceStatus>('Service').implement({
  description:
    'The server that answers. A server that does not generate video reports on all servers that do, together.',
  fields: (t) => ({
    version: t.string({
      description: 'Version of the service.',
      resolve: (_status, _args, { facts }) => facts.version,
    }),
    accepting: t.exposeBoolean('accepting', { description: 'Whether new sessions are admitted.' }),
    detail: t.string({
      nullable: true,
      description: 'Why not, if it does not.',
      resolve: ({ detail }) => detail && withoutPaths(detail),
    }),
    devices: t.expose('devices', { description: 'What generates here.', type: [Device], ...weigh(DEVICES) }),
    queued: t.int({
      description: 'Number of sessions that wait for a device, at all servers together.',
      resolve: ({ queued }) => queued,
    }),
    sessions: t.field({
      type: [SessionCount],
      description: 'Sessions in memory, by state.',
      ...weigh(STATES),
      resolve: ({ sessions }) =>
        (Object.entries(sessions) as [keyof typeof sessions, number][]).map(([state, count]) => ({ state, count })),
    }),
    defaultModel: t.field({
      type: Model,
      nullable: true,
      description: 'The model of sessions created without naming one.',
      resolve: (_status, _args, { sessions }) => sessions.models()[0],
    }),
    heartbeatSeconds: t.float({
      description:
        'An idle stream carries a `Heartbeat` this often; after three times as long without an event, reconnect.',
      resolve: (_status, _args, { facts }) => facts.heartbeatSeconds,
    }),
    maxSubscribersPerSession: t.int({
      description: 'How many streams of one session this server serves at once.',
      resolve: (_status, _args, { facts }) => facts.maxSubscribersPerSession,
    }),
  }),
});

builder.queryField('service', (t) =>
  t.field({
    type: Service,
    description: 'What the service can do, and what it is doing now.',
    resolve: (_root, _args, { sessions }) => sessions.status(),
  }),
);
