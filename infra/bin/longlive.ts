import { App } from 'aws-cdk-lib';
import { readSettings } from '../lib/settings.js';
import { ServiceStack } from '../lib/service-stack.js';
import { StorageStack } from '../lib/storage-stack.js';

const app = new App();

// No account here, so that it synthesises without credentials; the zones are named, so that none have to be asked for.
const region = app.node.tryGetContext('region') as string | undefined;
const settings =
  app.node.tryGetContext('zones') === undefined
    ? undefined
    : readSettings((key) => app.node.tryGetContext(key) as unknown);
const env = { region: settings?.region ?? region };
if (env.region === undefined)
  throw new Error(
    'Give the region, -c region=…, for the storage; zones and images as well for the service. See docs/aws.md.',
  );

// The bucket, the packages and the images come first: the service is there once its settings are given.
const storage = new StorageStack(app, 'LongLiveStorage', { env: { region: env.region } });
if (settings) new ServiceStack(app, 'LongLive', { env: { region: settings.region }, settings, storage });
