/* Generated from h3ref/flows.py by `python -m docs.generate.promela`: change that, not this. */

inline flow_callback() {
  GOES_ON(x_check_sse_started());
  GOES_ON(x_take_callback());
  GOES_ON(x_create_connection());
  GOES_ON(x_send_headers());
  GOES_ON(x_connection_ready());
  GOES_ON(x_run_callback());
  skip
}

inline flow_awaited() {
  GOES_ON(x_check_sse_started());
  GOES_ON(x_create_connection());
  GOES_ON(x_send_headers());
  GOES_ON(x_connection_ready());
  GOES_ON(x_hand_over());
  skip
}

inline flow_blocking() {
  GOES_ON(e_start_sse());
  GOES_ON(x_check_sse_started());
  GOES_ON(x_create_connection());
  GOES_ON(x_send_headers());
  GOES_ON(x_connection_ready());
  GOES_ON(x_hand_over());
  skip
}

inline flow_broken() {
  GOES_ON(x_run_handler(0));
  if
  :: raised == nothing && state == sse_started ->
    GOES_ON(x_check_sse_started());
    GOES_ON(x_create_connection());
    GOES_ON(x_send_headers());
    GOES_ON(x_connection_ready());
    GOES_ON(x_wait_until_closed());
    skip
  :: else
  fi;
  GOES_ON(x_close());
  skip
}

inline flow_by_handler() {
  GOES_ON(x_run_handler(1));
  if
  :: raised == nothing && state == sse_started ->
    GOES_ON(flow_callback());
    skip
  :: else
  fi;
  GOES_ON(x_close());
  skip
}
