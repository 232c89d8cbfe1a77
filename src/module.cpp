// What happens when PostgreSQL loads this library.
#include "compat.hpp"
#include "launcher.hpp"
#include "lifecycle.hpp"
#include "settings.hpp"
#include "shared.hpp"

extern "C" {
PG_MODULE_MAGIC_EXT(.name = "pg_twilio", .version = PG_TWILIO_VERSION);
PGDLLEXPORT void _PG_init();
}

void _PG_init()
{
    twilio::settings::define();
    if (!process_shared_preload_libraries_in_progress || IsBinaryUpgrade)
        return;
    twilio::shared::request();
    twilio::lifecycle::installHooks();
    twilio::launcher::registerWorker();
}
