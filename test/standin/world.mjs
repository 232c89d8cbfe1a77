// All that one stand-in knows and does, put together: state, routes, checks.

import { Accounts } from './accounts.mjs';
import { Callbacks } from './callbacks.mjs';
import { Conformance } from './conformance.mjs';
import { Fates } from './timeline.mjs';
import { Front } from './front.mjs';
import { Ledger } from './ledger.mjs';
import { Misbehaviours } from './misbehaviour.mjs';
import { Router } from './router.mjs';
import { addAccountRoutes } from './resources/account.mjs';
import { addCallRoutes } from './resources/calls.mjs';
import { addLookupRoutes } from './resources/lookups.mjs';
import { addMessageRoutes } from './resources/messages.mjs';
import { addNumberRoutes } from './resources/numbers.mjs';
import { addPortingRoutes } from './resources/porting.mjs';
import { addReportRoutes } from './resources/reports.mjs';

export class World {
  constructor({ callbackTo, validate = true } = {}) {
    this.accounts = new Accounts();
    this.ledger = new Ledger();
    this.misbehaviours = new Misbehaviours();
    this.conformance = new Conformance(validate);
    this.fates = new Fates();
    this.callbacks = new Callbacks(callbackTo);
    this.router = new Router();
    this.faults = [];
    this.front = new Front(this);
    for (const add of [addMessageRoutes, addCallRoutes, addAccountRoutes, addNumberRoutes, addReportRoutes, addLookupRoutes, addPortingRoutes]) add(this.router);
  }

  // Forgets everything but the configuration: as started anew.
  reset() {
    this.accounts = new Accounts();
    this.ledger.clear();
    this.misbehaviours.clear();
    this.fates.clear();
    this.conformance.clear();
    this.callbacks.clear();
    this.faults = [];
  }
}
