/** How much each device can take: admission by the block times actually observed, not by a configured guess. */

import type { DeviceStatus } from '../api.js';
import { blockSeconds } from '../blocks.js';
import { DomainError } from '../errors.js';
import { DeviceExecutor } from './executor.js';
import type { ModelInfo } from '../ports.js';
import type { SessionPolicy } from '../policy.js';
import type { Session } from '../session.js';

/** Weight of the newest block in the smoothed block time. */
const SMOOTHING = 0.2;

/** How many REALTIME sessions may start before anything is known about their cost. */
const UNMEASURED = 2;

const DEFAULT_RETRY_SECONDS = 10;
const LONGEST_RETRY_SECONDS = 60;

interface Running {
  session: () => Session;
  cost: string;
}

class Device {
  readonly executor = new DeviceExecutor();
  readonly running = new Map<string, Running>();
  readonly blockMilliseconds = new Map<string, number>();
  latest: { milliseconds: number; playSeconds: number } | undefined;

  realtime(): Running[] {
    return [...this.running.values()].filter(({ session }) => session().pace === 'REALTIME');
  }

  /** Share of the device that a session needs to keep up; undefined as long as nobody has measured. */
  shareOf(running: Running): number | undefined {
    const milliseconds = this.blockMilliseconds.get(running.cost);
    return milliseconds === undefined ? undefined : milliseconds / 1_000 / blockSeconds(running.session());
  }

  load(): number {
    return this.realtime().reduce((sum, running) => sum + (this.shareOf(running) ?? 0), 0);
  }
}

export class Capacity {
  private readonly devices = new Map<string, Device>();

  constructor(
    private readonly models: () => ModelInfo[],
    private readonly policy: SessionPolicy,
  ) {}

  executor(session: Session): DeviceExecutor {
    return this.deviceOf(session).executor;
  }

  /** Takes a place for the session until `leave`, or refuses with AT_CAPACITY. Entering twice is once. */
  enter(id: string, session: () => Session): void {
    const device = this.deviceOf(session());
    if (device.running.has(id)) return;
    const running = { session, cost: costKey(session()) };
    this.admit(device, running);
    device.running.set(id, running);
  }

  leave(id: string): void {
    for (const device of this.devices.values()) device.running.delete(id);
  }

  observe(session: Session, milliseconds: number): void {
    const device = this.deviceOf(session);
    const key = costKey(session);
    const before = device.blockMilliseconds.get(key) ?? milliseconds;
    device.blockMilliseconds.set(key, before + SMOOTHING * (milliseconds - before));
    device.latest = {
      milliseconds: device.blockMilliseconds.get(key) ?? milliseconds,
      playSeconds: blockSeconds(session),
    };
  }

  status(): DeviceStatus[] {
    const names = new Set([...this.models().map((model) => model.device), ...this.devices.keys()]);
    return [...names].map((name) => this.statusOf(name, this.device(name)));
  }

  private statusOf(name: string, device: Device): DeviceStatus {
    const realtimeSessions = device.realtime().length;
    const { latest } = device;
    return {
      device: name,
      realtimeSessions,
      fastestSessions: device.running.size - realtimeSessions,
      load: Math.round(device.load() * 1_000) / 1_000,
      ...(latest && {
        blockMilliseconds: latest.milliseconds,
        capacity: Math.min(this.policy.maxSessions, this.fitting(latest.milliseconds / 1_000 / latest.playSeconds)),
      }),
    };
  }

  private fitting(share: number): number {
    return Math.max(1, Math.floor(this.policy.maxLoad / share));
  }

  private admit(device: Device, newcomer: Running): void {
    if (this.total() >= this.policy.maxSessions) {
      throw this.full(device, `All ${this.policy.maxSessions} session places are taken`);
    }
    if (newcomer.session().pace !== 'REALTIME') return;
    const realtime = device.realtime();
    if (realtime.length === 0) return;
    const share = device.shareOf(newcomer);
    if (share === undefined) {
      const unmeasured = realtime.filter((running) => device.shareOf(running) === undefined).length;
      if (unmeasured >= UNMEASURED) throw this.full(device, 'Other sessions are just starting', 2);
    } else if (device.load() + share > this.policy.maxLoad) {
      throw this.full(device, 'One more session would make all of them stutter');
    }
  }

  private full(device: Device, why: string, retryAfterSeconds = retryAfter(device)): DomainError {
    return new DomainError('AT_CAPACITY', `${why}; try again in ${retryAfterSeconds} seconds.`, { retryAfterSeconds });
  }

  private total(): number {
    return [...this.devices.values()].reduce((sum, device) => sum + device.running.size, 0);
  }

  private deviceOf(session: Session): Device {
    const model = this.models().find((candidate) => candidate.name === session.model);
    return this.device(model?.device ?? 'unknown');
  }

  private device(name: string): Device {
    const device = this.devices.get(name) ?? new Device();
    this.devices.set(name, device);
    return device;
  }
}

/** When the session that ends soonest should be over. */
function retryAfter(device: Device): number {
  const remaining = [...device.running.values()].flatMap(({ session }) => {
    const { maxSeconds, seconds } = session();
    return maxSeconds === undefined ? [] : [maxSeconds - seconds];
  });
  const soonest = remaining.length > 0 ? Math.min(...remaining) : DEFAULT_RETRY_SECONDS;
  return Math.min(LONGEST_RETRY_SECONDS, Math.max(1, Math.ceil(soonest)));
}

function costKey(session: Session): string {
  return `${session.model}@${session.width}x${session.height}`;
}
