/** How this server stands: what it has, how busy it is, and whether it takes more. */

import { DomainError } from '../errors.js';
import type { ServiceStatus } from '../sessions.js';
import type { Context } from './context.js';
import { DemandForWorkers } from './demand.js';
import type { Directory } from './directory.js';
import { generatesNothing } from './no-engine.js';
import type { Notice } from './notice.js';

export class Standing {
  /** Set when the server is about to end. */
  closing = false;
  /** Why the store is not the one that it should be. */
  lost: string | undefined;
  /** Of the store; known once the server has begun. */
  deployment = '';
  readonly demand: DemandForWorkers;

  constructor(
    private readonly context: Context,
    private readonly directory: Directory,
    /** Whether sessions are generated here. */
    readonly hosts: boolean,
  ) {
    this.demand = new DemandForWorkers(context.clock);
  }

  status(): ServiceStatus {
    const sessions: ServiceStatus['sessions'] = {};
    for (const owned of this.directory.owned()) {
      const { state } = owned.view();
      sessions[state] = (sessions[state] ?? 0) + 1;
    }
    const detail = this.whyNotAccepting();
    const { trouble } = this.context.cluster;
    return {
      accepting: detail === undefined,
      ...(detail !== undefined && { detail }),
      ...(trouble !== undefined && { warning: trouble }),
      devices: this.context.capacity.status(),
      refusedRecordings: this.context.engine.refusedRecordings ?? 0,
      sessions,
      queued: this.context.line.length,
    };
  }

  mustBeOpen(toGenerate = false): void {
    if (this.closing) throw new DomainError('SHUTTING_DOWN', 'This server is shutting down; try again in a moment.');
    if (toGenerate && !this.hosts) throw generatesNothing();
  }

  notice(): Notice {
    const { hosts, deployment } = this;
    if (!hosts) {
      return {
        hosts,
        deployment,
        accepting: false,
        waiting: this.demand.waiting(),
        free: 0,
        models: [],
        encoders: [],
        devices: [],
        speeds: {},
        sessions: {},
      };
    }
    const { engine, media, capacity } = this.context;
    const { accepting, devices, sessions } = this.status();
    const encoders = [...media.encoders];
    const speeds = Object.fromEntries(
      this.directory.owned().flatMap((owned) => {
        const { id, speed } = owned.view();
        return speed === undefined ? [] : [[id, speed] as const];
      }),
    );
    const models = engine.models();
    const waiting = this.demand.waiting();
    const { free } = capacity;
    const tenants = capacity.byTenant();
    const turnover = capacity.turnover();
    return {
      ...{ hosts, deployment, accepting, waiting, turnover, free },
      ...{ models, encoders, devices, speeds, sessions, tenants },
    };
  }

  private whyNotAccepting(): string | undefined {
    if (this.closing) return 'The server is shutting down.';
    if (this.lost !== undefined) return this.lost;
    if (this.context.engine.models().length === 0) return 'No model package is loaded.';
    return this.context.engine.fault;
  }
}
