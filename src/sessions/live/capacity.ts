/** How much each device can take: admission by the block times actually observed, not by a configured guess. */

import type { DeviceStatus } from '../sessions.js';
import { blockSeconds } from '../blocks.js';
import { DomainError } from '../errors.js';
import { DeviceExecutor } from './executor.js';
import { findModel } from './required-model.js';
import { Runs, type Turnover } from './waiting-time.js';
import type { Clock, ModelInfo } from '../ports.js';
import type { SessionPolicy } from '../policy.js';
import type { Session } from '../session.js';
import { tenantOf } from '../access/principal.js';
import { add, mustBeWithin, NONE_RUNNING, type Running, runningByTenant, runningOf } from './tenant-bounds.js';

/** Weight of the newest block in the smoothed block time. */
const SMOOTHING = 0.2;

/** How many REALTIME sessions may start before anything is known about their cost. */
const UNMEASURED = 2;

const DEFAULT_RETRY_SECONDS = 10;
const LONGEST_RETRY_SECONDS = 60;

/** What the time of a block depends on. */
type Measured = Pick<Session, 'modelDigest' | 'width' | 'height' | 'framesPerBlock' | 'fps'>;

/** A session's room on a device: nothing of a session is held in memory there without one. */
export class Place {
  private state: 'running' | 'resting' | 'free' = 'running';
  /** When it began to run, by the monotonic clock. */
  private since: number;
  private reclaim: () => void = () => undefined;

  constructor(
    private readonly capacity: Capacity,
    readonly device: Device,
    readonly session: () => Session,
    readonly cost: string,
  ) {
    this.since = capacity.now();
  }

  get running(): boolean {
    return this.state === 'running';
  }

  get resting(): boolean {
    return this.state === 'resting';
  }

  /**
   * Seconds of video that the device makes for this session in a second, with all others that have to keep up; of one
   * that runs in REALTIME, as soon as anybody measured.
   */
  get speed(): number | undefined {
    if (!this.running || this.session().pace !== 'REALTIME') return undefined;
    if (this.device.shareOf(this) === undefined) return undefined;
    return Math.round(1_000 / this.device.load()) / 1_000;
  }

  /** In how many seconds it is over at the latest, if that is known. */
  get endsIn(): number | undefined {
    const { pace, maxSeconds, seconds } = this.session();
    if (maxSeconds === undefined) return undefined;
    const left = Math.max(0, maxSeconds - seconds);
    if (pace === 'REALTIME') return left / Math.min(1, this.speed ?? 1);
    const share = this.device.shareOf(this);
    return share === undefined ? undefined : left * share * this.device.running().length;
  }

  /** Counts for the device's load again; AT_CAPACITY when there is no room for that. */
  run(): void {
    if (this.state === 'running') return;
    if (this.state === 'resting') this.capacity.admit(this);
    this.state = 'running';
    this.since = this.capacity.now();
  }

  /** Goes on holding memory, but needs no time of the device. `reclaim` frees the place when others need it. */
  rest(reclaim: () => void): void {
    if (this.state === 'free') return;
    this.stopRunning();
    this.state = 'resting';
    this.reclaim = reclaim;
    this.device.places.delete(this);
    this.device.places.add(this);
    this.capacity.tidy();
    this.capacity.roomMade();
  }

  /** Once; whoever frees a place has let go of the memory that went with it. */
  free(): void {
    this.stopRunning();
    this.state = 'free';
    this.device.places.delete(this);
    this.capacity.roomMade();
  }

  /** For how long it has run. */
  get ran(): number {
    return this.capacity.now() - this.since;
  }

  private stopRunning(): void {
    if (this.running) this.capacity.runs.ended(this.ran);
  }

  takeBack(): void {
    this.reclaim();
    this.free();
  }
}

class Device {
  readonly executor = new DeviceExecutor();
  /** Those that rest in the order in which they began to. */
  readonly places = new Set<Place>();
  readonly blockMilliseconds = new Map<string, number>();
  latest: { milliseconds: number; playSeconds: number } | undefined;

  running(): Place[] {
    return [...this.places].filter(({ running }) => running);
  }

  realtime(): Place[] {
    return this.running().filter(({ session }) => session().pace === 'REALTIME');
  }

  /** Share of the device that a session needs to keep up; undefined as long as nobody has measured. */
  shareOf(place: Place): number | undefined {
    const milliseconds = this.blockMilliseconds.get(place.cost);
    return milliseconds === undefined ? undefined : milliseconds / 1_000 / blockSeconds(place.session());
  }

  load(): number {
    return this.realtime().reduce((sum, place) => sum + (this.shareOf(place) ?? 0), 0);
  }
}

export class Capacity {
  private readonly devices = new Map<string, Device>();

  readonly runs = new Runs();

  constructor(
    private readonly models: () => ModelInfo[],
    private readonly policy: SessionPolicy,
    private readonly clock: Pick<Clock, 'monotonic'>,
    /** Called when there may be room that was not there before. */
    readonly roomMade: () => void,
    /** What other servers run for a tenant. */
    private readonly elsewhere: (tenant: string) => Running = () => NONE_RUNNING,
  ) {}

  now(): number {
    return this.clock.monotonic();
  }

  /** What frees places here. */
  turnover(): Turnover {
    const running = this.running();
    const ends = running.flatMap((place) => place.endsIn ?? []);
    return this.runs.turnover(
      running.map(({ ran }) => ran),
      ends,
    );
  }

  executor(session: Measured): DeviceExecutor {
    return this.deviceOf(session).executor;
  }

  /** Takes a place, which the caller frees, or refuses with AT_CAPACITY. */
  enter(session: () => Session): Place {
    const device = this.deviceOf(session());
    const place = new Place(this, device, session, costKey(session()));
    this.admit(place);
    if (this.places().length >= this.policy.maxSessions) this.longestResting()?.takeBack();
    if (this.places().length >= this.policy.maxSessions) {
      throw this.full(device, `All ${this.policy.maxSessions} sessions are in use`);
    }
    device.places.add(place);
    return place;
  }

  /** Places that nobody runs in. */
  get free(): number {
    return this.policy.maxSessions - this.places().filter(({ running }) => running).length;
  }

  /** Sees to it that no more paused sessions keep their memory than may. */
  tidy(): void {
    while (this.places().filter(({ resting }) => resting).length > this.policy.pausedInMemory) {
      this.longestResting()?.takeBack();
    }
  }

  observe(session: Measured, milliseconds: number): void {
    const device = this.deviceOf(session);
    const key = costKey(session);
    const before = device.blockMilliseconds.get(key) ?? milliseconds;
    device.blockMilliseconds.set(key, before + SMOOTHING * (milliseconds - before));
    this.roomMade();
    device.latest = {
      milliseconds: device.blockMilliseconds.get(key) ?? milliseconds,
      playSeconds: blockSeconds(session),
    };
  }

  /** Whether anything is known of the device's speed. */
  hasMeasured(device: string): boolean {
    return this.device(device).latest !== undefined;
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
      fastestSessions: device.running().length - realtimeSessions,
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

  /** What runs here, by tenant. */
  byTenant(): Record<string, Running> {
    return runningByTenant(this.running().map((place) => place.session()));
  }

  /** Refuses one that is more than its tenant may have, and a REALTIME session that would make others stutter. */
  admit(newcomer: Place): void {
    const { device } = newcomer;
    const tenant = tenantOf(newcomer.session());
    const here = runningOf(
      tenant,
      this.running().map((place) => place.session()),
    );
    mustBeWithin(this.policy, newcomer.session(), add(here, this.elsewhere(tenant)), retryAfter(device));
    if (newcomer.session().pace !== 'REALTIME') return;
    const realtime = device.realtime();
    if (realtime.length === 0) return;
    const share = device.shareOf(newcomer);
    if (share === undefined) {
      const unmeasured = realtime.filter((place) => device.shareOf(place) === undefined).length;
      if (unmeasured >= UNMEASURED) throw this.full(device, 'Other sessions are starting', 2);
    } else if (device.load() + share > this.policy.maxLoad) {
      throw this.full(device, 'The device cannot keep up with one more session');
    }
  }

  private full(device: Device, why: string, retryAfterSeconds = retryAfter(device)): DomainError {
    return new DomainError('AT_CAPACITY', `${why}; try again in ${retryAfterSeconds} seconds.`, { retryAfterSeconds });
  }

  private places(): Place[] {
    return [...this.devices.values()].flatMap((device) => [...device.places]);
  }

  private running(): Place[] {
    return this.places().filter((place) => place.running);
  }

  private longestResting(): Place | undefined {
    return this.places().find(({ resting }) => resting);
  }

  private deviceOf(session: Measured): Device {
    const model = findModel(this.models(), session);
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
  const remaining = device.running().flatMap(({ session }) => {
    const { maxSeconds, seconds } = session();
    return maxSeconds === undefined ? [] : [maxSeconds - seconds];
  });
  const soonest = remaining.length > 0 ? Math.min(...remaining) : DEFAULT_RETRY_SECONDS;
  return Math.min(LONGEST_RETRY_SECONDS, Math.max(1, Math.ceil(soonest)));
}

function costKey(session: Measured): string {
  return `${session.modelDigest}@${session.width}x${session.height}`;
}
