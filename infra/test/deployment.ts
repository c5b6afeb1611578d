import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { App, Validations } from 'aws-cdk-lib';
import { Template } from 'aws-cdk-lib/assertions';
import { AwsSolutionsChecks } from 'cdk-nag';
import { readSettings, type Settings } from '../lib/settings.js';
import { ServiceStack } from '../lib/service-stack.js';
import { StorageStack } from '../lib/storage-stack.js';

const digest = (digit: string) => `sha256:${digit.repeat(64)}`;

export const CONTEXT: Record<string, unknown> = {
  zones: 'eu-central-1a,eu-central-1b',
  ami: 'ami-0123456789abcdef0',
  workerImage: digest('a'),
  apiImage: digest('b'),
};

export const settingsOf = (context: Record<string, unknown> = {}): Settings =>
  readSettings((key) => ({ ...CONTEXT, ...context })[key]);

const outdir = mkdtempSync(join(tmpdir(), 'longlive-infra-'));
process.once('exit', () => rmSync(outdir, { recursive: true }));

export interface Deployment {
  storage: Template;
  service: Template;
}

function stacks(context: Record<string, unknown>) {
  const settings = settingsOf(context);
  const app = new App({
    outdir: mkdtempSync(join(outdir, 'app-')),
    context: { '@aws-cdk/core:checkSecretUsage': true, '@aws-cdk/aws-iam:minimizePolicies': true },
  });
  const env = { region: settings.region };
  const storage = new StorageStack(app, 'Storage', { env });
  return { app, storage, service: new ServiceStack(app, 'Service', { env, settings, storage }) };
}

export function deployment(context: Record<string, unknown> = {}): Deployment {
  const { storage, service } = stacks(context);
  return { storage: Template.fromStack(storage), service: Template.fromStack(service) };
}

/** What cdk-nag has to say that is not answered where it arises, as `<construct>: <rule>`. */
export function nagFindings(): string[] {
  const { app } = stacks({});
  Validations.of(app).addPlugins(new AwsSolutionsChecks(app));
  try {
    app.synth();
  } catch {
    // There are findings.
  }
  const report = join(app.outdir, 'validation-report.json');
  if (!existsSync(report)) throw new Error('cdk-nag did not run');
  return findingsIn(JSON.parse(readFileSync(report, 'utf8')));
}

/** Properties of all resources of a type. */
export function all(template: Template, type: string): Record<string, any>[] {
  return Object.values(template.findResources(type)).map(({ Properties }) => Properties as Record<string, any>);
}

interface NagReport {
  pluginReports: { violations: { ruleName: string; violatingConstructs: { constructPath: string }[] }[] }[];
}

function findingsIn({ pluginReports }: NagReport): string[] {
  return pluginReports
    .flatMap(({ violations }) => violations)
    .flatMap(({ ruleName, violatingConstructs }) =>
      violatingConstructs.map(({ constructPath }) => `${constructPath}: ${ruleName}`),
    );
}
