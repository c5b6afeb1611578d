import { render } from 'preact';
import { takeTokenFromAddress } from './lib/live';
import { App } from './ui/app';
import './styles.css';

takeTokenFromAddress();
render(<App />, document.getElementById('app') as HTMLElement);
