import { systemClock } from '../../../src/sessions/clock.js';
import { InProcessJobs } from '../../../src/sessions/index.js';
import { describeJobs } from '../../support/jobs-contract.js';

describeJobs(() => new InProcessJobs(systemClock));
