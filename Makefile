# pg_twilio: build, install, test. `make help` lists the targets.
#
# PG_CONFIG chooses the PostgreSQL to build for. Everything but `install` stays inside build/.

PG_CONFIG ?= pg_config

MODULE_big = pg_twilio
EXTENSION  = pg_twilio
EXTVERSION := $(shell sed -n "s/^default_version *= *'\(.*\)'/\1/p" pg_twilio.control)

# The extension's SQL, one file per subject, in the order in which it is installed.
SQL_MODULES = engine identity audit checks settings settings_write rotation numbers sender verify phone_numbers arming \
              orders give_way order_results breaker opt_outs messages messages_write message_status message_functions message_orders reconcile reread \
              calls call_status calls_write call_orders call_look webhooks webhook_messages number_webhooks templates usage porting queue status statistics rest privileges

SQL_FILES  = $(SQL_MODULES:%=sql/%.sql)
DATA_built = sql/pg_twilio--$(EXTVERSION).sql

OBJS = $(patsubst %.cpp,%.o,$(sort $(wildcard src/*.cpp)))

# The server's headers are not ours to warn about: -isystem outranks the -I that PGXS adds.
PG_CPPFLAGS  = -DPG_TWILIO_VERSION=\"$(EXTVERSION)\" \
               -isystem $(shell $(PG_CONFIG) --includedir-server)
PG_CXXFLAGS  = -std=c++20 -Wall -Wextra -Werror
SHLIB_LINK  += -lcurl -lssl -lcrypto -lstdc++

EXTRA_CLEAN  = build src/*.d

# Goals that prepare the machine themselves, so they must work before PostgreSQL is installed.
STANDALONE = check check-% deps help demo serve dist deb fuzz soak bench
ifneq ($(filter $(STANDALONE),$(MAKECMDGOALS)),)
.DEFAULT_GOAL := help
else
PGXS := $(wildcard $(shell $(PG_CONFIG) --pgxs 2>/dev/null))
ifeq ($(PGXS),)
$(error PostgreSQL's development files are missing: run `make deps`, or set PG_CONFIG)
endif
include $(PGXS)
COMPILE.cc     += -MMD -MP
COMPILE.cxx.bc += $(PG_CXXFLAGS) -MMD -MP -MF $(@:.bc=.bc.d)
-include $(OBJS:.o=.d) $(OBJS:.o=.bc.d)
endif

# ---- build --------------------------------------------------------------------------------------

##   all            build the extension (the default)
##   install        install it into the PostgreSQL of PG_CONFIG
##   clean          remove what was built

$(DATA_built): $(SQL_FILES) Makefile pg_twilio.control
	@rm -f sql/pg_twilio--*.sql
	@{ printf '%s\n' '\echo Use "CREATE EXTENSION pg_twilio" to load this file. \quit'; cat $(SQL_FILES); } > $@.new
	@mv $@.new $@

$(OBJS) $(OBJS:.o=.bc): pg_twilio.control

# A copy of the system's PostgreSQL with the extension in it, for tests and the demo. PostgreSQL
# finds its libraries and its share directory relative to its binaries, so the copy needs no root
# and changes nothing outside build/.
STAGE = build/pg

##   stage          put PostgreSQL with the extension into build/pg
.PHONY: stage
stage: all
	@test/stage '$(PG_CONFIG)' '$(STAGE)'
	@$(MAKE) --no-print-directory --silent $(STAGE)/.installed

$(STAGE)/.installed: $(MODULE_big).so $(DATA_built) pg_twilio.control
	@$(MAKE) --no-print-directory --silent install DESTDIR='$(abspath $(STAGE))' > /dev/null
	@touch $@

# ---- tests --------------------------------------------------------------------------------------

##   deps           install what building and testing need (Debian and npm)
.PHONY: deps
deps:
	@test/install-deps

##   check          all tests; at the end one line `N passed, N failed`
.PHONY: check
ifneq ($(filter check,$(MAKECMDGOALS)),)
check:
	@test/check
endif

##   check-LAYER    one layer: unit standin regress server rest browser (TESTS=002_verify.pl picks a file)
.PHONY: check-unit check-standin check-regress check-server check-rest check-browser
check-unit check-standin check-regress check-server check-rest check-browser: check-%:
	@test/check $*

##   check-versions all of 15, 17 and 18, in folders of Debian bookworm, trixie and sid (mmdebstrap; takes root)
.PHONY: check-versions
check-versions:
	@test/versions

##   check-ha       failover by Patroni, not part of check (ROUNDS=4 MESSAGES=4000 SYNCHRONOUS=on)
.PHONY: check-ha
check-ha:
	@test/check ha

##   installcheck   SQL and isolation tests against a running, preloaded server (PGHOST, PGPORT, PGUSER)
.PHONY: installcheck
installcheck:
	@test/installcheck '$(PG_CONFIG)'

##   fuzz           libFuzzer on the pure C++, then random calls by SQL (MINUTES=1 for each)
.PHONY: fuzz
fuzz:
	@test/fuzz/run

##   soak           load, faults and crashes; what was lost or doubled (MINUTES=5 RATE=100 CRASHES=20)
.PHONY: soak
soak:
	@test/soak/run

# ---- to see it at work --------------------------------------------------------------------------

##   demo           what a user does, in psql, on a private server (KEEP=1 leaves it running)
.PHONY: demo
demo:
	@test/demo

##   serve          the settings page and the REST API on a private server, until Ctrl-C (PORT=8080 TWILIO=real)
.PHONY: serve
serve:
	@test/serve

##   bench          measurements on a private server; results in bench/results (ROUNDS=3 MESSAGES=20000)
.PHONY: bench
bench:
	@bench/run

# ---- releases -----------------------------------------------------------------------------------

##   dist           the release for PGXN: build/pg_twilio-VERSION.zip
.PHONY: dist
dist:
	@mkdir -p build
	git archive --format=zip --prefix=pg_twilio-$(EXTVERSION)/ --output=build/pg_twilio-$(EXTVERSION).zip HEAD

##   deb            Debian packages, into build/deb (takes what debian/control.in names)
.PHONY: deb
deb:
	@packaging/deb

##   check-package  the Debian package built, installed and tested in clean folders (mmdebstrap; takes root)
.PHONY: check-package
check-package:
	@packaging/check

# ---- for developers -----------------------------------------------------------------------------

SOURCES = $(wildcard src/*.[ch]pp test/unit/*.[ch]pp test/fuzz/*.[ch]pp)

##   format         clang-format the sources
.PHONY: format
format:
	clang-format -i $(SOURCES)

##   lint           clang-format and clang-tidy, changing nothing
.PHONY: lint
lint:
	clang-format --dry-run -Werror $(SOURCES)
	clang-tidy --quiet $(OBJS:.o=.cpp) -- $(PG_CPPFLAGS) $(PG_CXXFLAGS)

##   help           this list
.PHONY: help
help:
	@sed -n 's/^##   //p' $(firstword $(MAKEFILE_LIST))
