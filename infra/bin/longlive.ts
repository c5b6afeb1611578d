import { App } from 'aws-cdk-lib';
import { readSettings } from '../lib/settings.js';
import { LongLiveStack } from '../lib/longlive-stack.js';

const app = new App();
// No account or region here: the template is environment-agnostic, so that it synthesises without credentials.
new LongLiveStack(app, 'LongLive', { settings: readSettings((key) => app.node.tryGetContext(key) as unknown) });
